"""One extension on one application: how many threads it spares, which hub it has, what it says."""

from __future__ import annotations

import resource
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from flask_eventstream import state as room
from flask_eventstream.brokers.memory import MemoryBroker
from flask_eventstream.config import Config
from flask_eventstream.errors import EventTooLarge
from flask_eventstream.hub.adoption import Adoption
from flask_eventstream.hub.hub import Stats
from flask_eventstream.hub.request import StreamRequest
from flask_eventstream.hub.thread import HubThread
from flask_eventstream.state import AppState
from harness.stage import Client
from harness.waiting import wait_until


def a_state(**config: Any) -> AppState:
    return AppState(Config(**config), MemoryBroker("memory://", retention=None))


@pytest.fixture
def run() -> Iterator[HubThread]:
    """A hub thread of the test's own."""
    run = HubThread()
    yield run
    run.stop()


def adopted(state: AppState, run: HubThread) -> Client:
    client = Client()
    run.call(state.adopt, run, Adoption(client.hub_end, StreamRequest(("sse",))))
    return client


@pytest.mark.parametrize(
    ("threads", "max_streams", "most"),
    [(1, None, 1), (2, None, 1), (8, None, 4), (2000, None, 1000), (8, 100, 4)],
)
def test_threads_that_may_hold_a_stream(threads: int, max_streams: int | None, most: int) -> None:
    """Half of a server's threads hold streams, and of one thread that one."""
    assert_most(most, threads, max_streams)


@pytest.mark.parametrize(("max_streams", "most"), [(None, 1), (5, 5)])
def test_threads_that_nobody_can_count(max_streams: int | None, most: int) -> None:
    """Of threads that can't be counted one holds a stream, or SSE_MAX_STREAMS do."""
    assert_most(most, None, max_streams)


def assert_most(most: int, threads: int | None, max_streams: int | None) -> None:
    state = a_state() if max_streams is None else a_state(max_streams=max_streams)

    assert all(state.hold_thread(threads) for _ in range(most))
    assert not state.hold_thread(threads)

    state.free_thread()

    assert state.hold_thread(threads)


def test_threads_are_counted_together() -> None:
    """However many threads ask at once, no more get one than there are."""
    state = a_state()
    granted: list[bool] = []

    def ask() -> None:
        granted.append(state.hold_thread(8))

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert granted.count(True) == 4


def test_a_hub_is_made_for_the_first_stream(run: HubThread) -> None:
    """Before its first stream a state has nothing to count; afterwards its hub counts."""
    state = a_state()

    assert state.stats() == Stats(0, 0, 0, {})

    client = adopted(state, run)
    wait_until(lambda: state.stats().streams == 1, what="the stream")
    client.close()
    wait_until(lambda: state.stats().streams == 0, what="the stream to be gone")


def test_all_streams_are_one_hubs(run: HubThread) -> None:
    """A second stream goes to the same hub, which the hub thread stops at the end."""
    state = a_state()
    clients = [adopted(state, run) for _ in range(2)]
    wait_until(lambda: state.stats().streams == 2, what="two streams")

    assert len(run.hubs) == 1

    run.stop()
    for client in clients:
        client.take()
        client.close()

        assert client.ended


def test_another_loop_gets_another_hub(run: HubThread) -> None:
    """A state whose process was forked makes a hub on the new thread's loop."""
    state = a_state()
    first = adopted(state, run)
    wait_until(lambda: state.stats().streams == 1, what="the stream")
    other = HubThread()
    second = adopted(state, other)
    wait_until(lambda: len(other.hubs) == 1, what="the other hub")
    wait_until(lambda: state.stats().opened == 1, what="its stream")

    assert len(run.hubs) == 1

    other.stop()
    first.close()
    second.close()


@pytest.mark.parametrize(("configured", "most"), [(7, 7), (None, 400)])
def test_how_many_streams_a_process_may_hold(
    run: HubThread, monkeypatch: pytest.MonkeyPatch, configured: int | None, most: int
) -> None:
    """The limit is the configured one, else the open files less a hundred."""
    monkeypatch.setattr(room, "open_file_limit", lambda: 500)
    state = a_state(max_streams=configured)
    client = adopted(state, run)
    wait_until(lambda: state.stats().streams == 1, what="the stream")

    assert [hub._max_streams for hub in run.hubs] == [most]

    client.close()


def test_there_is_always_room_for_one(run: HubThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where hardly any file may be opened, one stream is still allowed."""
    monkeypatch.setattr(room, "open_file_limit", lambda: 20)
    state = a_state()
    client = adopted(state, run)
    wait_until(lambda: state.stats().streams == 1, what="the stream")

    assert [hub._max_streams for hub in run.hubs] == [1]

    client.close()


def test_the_limit_of_this_process_is_asked() -> None:
    """The limit on open files is this process's own."""
    assert room.open_file_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


@pytest.mark.parametrize(
    ("max_streams", "advice"),
    [
        (1, "1 are open, all that SSE_MAX_STREAMS allows: raise it"),
        (None, "1 are open, all that the limit on open files allows: raise ulimit -n"),
    ],
)
def test_a_full_process_says_so(
    max_streams: int | None,
    advice: str,
    run: HubThread,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A process without room for another stream says, once, which limit it is."""
    monkeypatch.setattr(room, "open_file_limit", lambda: 101)
    state = a_state(max_streams=max_streams)
    state.say_if_full()
    client = adopted(state, run)
    wait_until(lambda: state.stats().streams == 1, what="the stream")
    assert caplog.messages == []
    state.say_if_full()
    state.say_if_full()

    assert caplog.messages == [f"A stream was sent away: {advice}"]

    client.close()


def test_the_publisher_is_bounded_as_configured() -> None:
    """Events larger than the configured bound are not published."""
    state = a_state(max_event_bytes=3)

    with pytest.raises(EventTooLarge):
        state.publisher.publish("four")


def test_a_warning_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """The same warning is logged once, another one too; another state says it again."""
    state = a_state()
    state.say_once("%s is slow", "it")
    state.say_once("%s is slow", "it")
    state.say_once("other")
    a_state().say_once("%s is slow", "it")

    assert caplog.messages == ["it is slow", "other", "it is slow"]
