"""`sqlite.listener`: the reading side on the loop, and its end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from brokers.hearing import Ear, Loop
from brokers.sqlite.at_hand import (
    Listen,
    Open,
    exit_code,
    in_child,
    listeners_are_none,
    threads,
)
from flask_eventstream.brokers.sqlite import log as sqlite_log
from flask_eventstream.brokers.sqlite.broker import SqliteBroker
from flask_eventstream.event import Event
from harness.waiting import wait_until

pytestmark = pytest.mark.real


def test_the_listener_ends_its_thread(open_broker: Open, loop: Loop) -> None:
    """When a listener is stopped its thread ends, and its connection is closed."""
    broker = open_broker()
    before = threads()
    ears = [Ear(loop, broker) for _ in range(5)]
    for ear in ears:
        ear.subscribe("a")
    assert threads() >= before + 5

    for ear in ears:
        ear.stop()

    wait_until(lambda: threads() <= before, what="the threads to end")


@pytest.mark.usefixtures("impatient")
def test_stop_cancels_what_waits_for_the_file(path: Path, loop: Loop) -> None:
    """A replay that waits for a broker that is away is cancelled by `stop`."""
    broker = SqliteBroker(path.parent / "missing" / "events.db", retention=None, timeout_s=1)
    ear = Ear(loop, broker)
    replay = asyncio.run_coroutine_threadsafe(ear.listener.replay(["a"], None), loop.loop)
    ear.stop()

    wait_until(replay.done, what="the replay to be cancelled")
    assert replay.cancelled()


def test_no_double_when_a_page_is_newer_than_the_last_look(
    open_broker: Open, listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was published between a look and a page is given by the page alone."""
    publisher = open_broker()
    ear = listen(open_broker(), "a")
    (start,) = [publisher.publish("a", Event("0"))]
    ear.wait_heard(1)
    read = sqlite_log.LogFile.read

    def read_late(log: sqlite_log.LogFile, *arguments: object) -> object:
        publisher.publish("a", Event("1"))
        monkeypatch.setattr(sqlite_log.LogFile, "read", read)
        return read(log, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(sqlite_log.LogFile, "read", read_late)
    reader = ear.attach_live("a", after=start)
    publisher.publish("a", Event("2"))

    wait_until(lambda: reader.data[-1:] == ["2"], what="the last event")
    assert reader.data == ["1", "2"]


def test_a_childs_listener_is_its_own(open_broker: Open, listen: Listen) -> None:
    """Publishing in a child does not touch the parent's listeners, whose threads are not there."""
    broker = open_broker()
    ear = listen(broker, "a")

    child = in_child(lambda: [broker.publish("a", Event("x")), listeners_are_none(broker)])

    assert exit_code(child) == 0
    ear.wait_heard(1)


def test_a_listener_whose_loop_is_gone_is_forgotten(broker: SqliteBroker, listen: Listen) -> None:
    """Nobody is woken for ever whose loop was closed without a word."""
    ear = listen(broker, "a")
    reader = ear.listener._reader  # type: ignore[attr-defined]

    def closed(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("Event loop is closed")

    reader._loop = type("Closed", (), {"call_soon_threadsafe": staticmethod(closed)})()
    broker.publish("a", Event("x"))

    wait_until(lambda: not broker._listeners, what="the listener to be forgotten")
