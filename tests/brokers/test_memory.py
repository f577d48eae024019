"""What is the memory broker's own: its thread-safe way to the loop, forks, forgotten channels."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

from brokers.hearing import Ear, Loop
from brokers.stores import Clock
from flask_eventstream.brokers.memory import MemoryBroker
from flask_eventstream.event import Event
from flask_eventstream.log.entries import Retention

Listen = Callable[..., Ear]


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_each_broker_is_a_log_of_its_own() -> None:
    """Two memory brokers share nothing, not even their epoch."""
    ids = {MemoryBroker("memory://", retention=None).publish("a", Event("x")) for _ in range(2)}

    assert len(ids) == 2


def test_the_default_retention_counts() -> None:
    """Without a retention the default one holds."""
    broker = MemoryBroker("memory://", retention=None)
    ids = [broker.publish("a", Event(str(number))) for number in range(1002)]

    assert broker.read(["a"], ids[0]).gone == {"a"}
    assert not broker.read(["a"], ids[1]).gone


def test_an_entry_posted_while_the_loop_empties_the_queue_is_delivered(loop: Loop) -> None:
    """No entry is left lying when the loop takes the last one just as another is posted."""
    broker = MemoryBroker("memory://", retention=None)
    ear = Ear(loop, broker)
    ear.subscribe("a")

    class Emptied(deque[Any]):
        """The loop empties it right before each entry: the worst moment."""

        def append(self, entry: Any) -> None:
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop.loop).result(10)
            self.clear()
            super().append(entry)

    posted = Emptied(["an entry that the loop is about to take"])
    ear.listener._posted = posted  # type: ignore[attr-defined]
    broker.publish("a", Event("x"))

    ear.wait_heard(1)
    assert ear.data == ["x"]
    ear.stop()


def test_a_made_up_id_looks_at_no_entry() -> None:
    """To find out that an id is nobody's costs the same, however long the log."""
    broker = MemoryBroker("memory://", retention=None)
    for number in range(500):
        broker.publish("a", Event("x", id=f"own {number}"))

    class Counted(deque[Any]):
        looks = 0

        def __iter__(self) -> Any:
            raise AssertionError("all entries are walked")

        def __getitem__(self, index: Any) -> Any:
            Counted.looks += 1
            return super().__getitem__(index)

    broker._channels["a"].entries = Counted(broker._channels["a"].entries)
    for made_up in ("nobody's", f"{broker._epoch}-999999", "00000000-1"):
        assert broker._sequence_of(["a", "b"], made_up) is None
    assert broker._sequence_of(["a"], "own 7") == 8
    assert Counted.looks == 0


def test_a_listener_whose_loop_is_closed_is_forgotten() -> None:
    """A loop that was closed without a word fails no publish, and is not kept for ever."""
    broker = MemoryBroker("memory://", retention=None)
    loop = asyncio.new_event_loop()

    class Nobody:
        def deliver(self, entries: Any) -> None: ...

        def interrupted(self, channels: Any, position: str) -> None: ...

    broker.listen(loop, Nobody())
    loop.close()
    broker.publish("a", Event("x"))

    assert not broker._listeners


def test_forgotten_channels_raise_the_floor(clock: Clock) -> None:
    """A reader older than a channel that was forgotten is told that something may be gone."""
    broker = MemoryBroker("memory://", retention=Retention(age_s=10), clock=clock)
    start = broker.publish("other", Event("x"))
    broker.publish("old", Event("x"))
    clock.advance(301)
    for _ in range(1024):
        broker.publish("other", Event("x"))

    assert broker.read(["old"], start).gone == {"old"}
    assert not broker.read(["old"], broker.publish("other", Event("x"))).gone


def test_channels_are_remembered_for_long(clock: Clock) -> None:
    """Until a channel is forgotten, readers of channels that never had an event lose nothing."""
    broker = MemoryBroker("memory://", retention=Retention(age_s=10), clock=clock)
    start = broker.publish("other", Event("x"))
    broker.publish("old", Event("x"))
    clock.advance(299)
    for _ in range(1024):
        broker.publish("other", Event("x"))

    assert not broker.read(["never used"], start).gone
    assert broker.read(["old"], start).gone == {"old"}


def test_a_forked_child_goes_on_alone() -> None:
    """A child forked while the lock was held can publish; its parent's listeners hear nothing."""
    broker = MemoryBroker("memory://", retention=None)
    with broker._lock:
        child = os.fork()
        if child == 0:
            broker.publish("a", Event("x"))
            os._exit(0)
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
