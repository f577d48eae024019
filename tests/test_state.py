"""One extension on one application: its hubs and their figures, what it says."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_eventstream.access.orders import REVOKED_FOR_S
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
    run.give(state, Adoption(client.hub_end, StreamRequest(("sse",))))
    return client


def test_revoked_are_grants_made_before() -> None:
    """A subject's grants from before its revocation are void, and no others."""
    state = a_state()
    before_s = time.time()
    assert not state.is_revoked("ann", before_s)

    state.publisher.revoke("ann")

    assert state.is_revoked("ann", before_s)
    assert not state.is_revoked("ann", time.time() + 0.001)
    assert not state.is_revoked("bob", before_s)


def test_a_grant_that_is_too_old_is_void() -> None:
    """A grant that is older than revocations are remembered is void: nobody could know."""
    assert a_state().is_revoked("ann", time.time() - REVOKED_FOR_S - 1)


def test_before_deciding_asks_only_where_no_hub_hears(run: HubThread) -> None:
    """Without a hub that hears a decision has a position; with one it is a moment alone."""
    state = a_state()
    assert state.before_deciding().position is not None

    client = adopted(state, run)
    wait_until(lambda: state.before_deciding().position is None, what="the hub to hear")
    client.close()


def test_a_hub_is_made_for_the_first_stream(run: HubThread) -> None:
    """Before its first stream a state has nothing to count; afterwards its hub counts."""
    state = a_state()

    assert state.stats() == Stats()

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


@pytest.fixture
def other() -> Iterator[HubThread]:
    """Another loop of the same process."""
    other = HubThread()
    yield other
    other.stop()


def test_each_loop_has_one_hub(run: HubThread, other: HubThread) -> None:
    """Streams that come to two loops in turn go to two hubs, whose figures are added up."""
    state = a_state()
    clients = [adopted(state, home) for home in (run, other) * 4]
    wait_until(lambda: state.stats().streams == 8, what="eight streams")

    assert [len(run.hubs), len(other.hubs)] == [1, 1]

    for client in clients:
        client.close()
    wait_until(lambda: sum(state.stats().ended.values()) == 8, what="eight ends")


def test_the_limit_holds_for_all_loops(run: HubThread, other: HubThread) -> None:
    """SSE_MAX_STREAMS is for the process, however many loops there are."""
    state = a_state(max_streams=2)
    clients = [adopted(state, home) for home in (run, other) * 4]
    wait_until(lambda: state.stats().refused == {"full": 6}, what="six to be sent away")

    assert state.stats().streams - state.stats().ended.get("refused", 0) <= 2

    for client in clients:
        client.close()


def test_a_forked_child_has_no_streams(run: HubThread) -> None:
    """In a forked child the figures are the child's own."""
    state = a_state()
    client = adopted(state, run)
    wait_until(lambda: state.stats().streams == 1, what="the stream")
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, repr(state.stats()).encode())
        os._exit(0)
    os.waitpid(child, 0)

    assert os.read(reading, 1000).decode() == repr(Stats())

    os.close(reading)
    os.close(writing)
    client.close()


def test_an_applications_streams_can_be_ended(run: HubThread, other: HubThread) -> None:
    """Its streams on all loops end with a goodbye, another application's go on; later ones open."""
    state, neighbour = a_state(), a_state()
    clients = [adopted(state, run), adopted(state, other)]
    kept = adopted(neighbour, run)
    wait_until(lambda: state.stats().streams == 2, what="two streams")
    wait_until(lambda: all(map(has_opened, clients)), what="both to be open")

    assert state.shut_down(1)
    assert state.stats().ended == {"shutdown": 2}
    assert neighbour.stats().streams == 1

    late = adopted(state, run)
    wait_until(lambda: has_opened(late), what="a later stream")
    for client in (*clients, kept, late):
        client.close()


class Noting(MemoryBroker):
    """Tells when it is closed."""

    def close(self) -> None:
        print("closed", flush=True)


@pytest.fixture
def noting() -> AppState:
    return AppState(Config(), Noting("memory://", retention=None))


def test_a_shutdown_closes_the_broker(noting: AppState, capsys: pytest.CaptureFixture[str]) -> None:
    """Who shuts an application down frees what its broker holds."""
    assert noting.shut_down(1)
    assert capsys.readouterr().out == "closed\n"


def test_the_end_of_a_process_closes_brokers() -> None:
    """A process that ends by itself closes the brokers of its applications."""
    lines = (
        "from test_state import AppState, Config, Noting",
        'state = AppState(Config(), Noting("memory://", retention=None))',
        'print("the last line")',
    )
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )

    # Exit hooks run before and after pool threads are waited for.
    assert done.stdout.splitlines()[:2] == ["the last line", "closed"]


def has_opened(client: Client) -> bool:
    client.take()
    return client.parser.comments > 0


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
