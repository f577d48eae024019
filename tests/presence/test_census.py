"""Counting readers: what a process tells the broker, when, and what it makes of all of it."""

from __future__ import annotations

import os
from typing import Any

import pytest

from flask_eventstream.brokers.memory import MemoryBroker
from flask_eventstream.errors import BrokerUnavailable, EndReason
from flask_eventstream.hub.request import Reader
from flask_eventstream.presence.census import _IDLE_TICKS, LEASE_S, Census, Readers


class Clock:
    """Seconds that stand still until a test moves them."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Log(MemoryBroker):
    """A log that notes what it is told, and may be away."""

    def __init__(self, clock: Clock) -> None:
        super().__init__("memory://", retention=None, clock=clock)
        self.told: list[dict[str, str]] = []
        self.away = False

    def share(self, owner: str, changed: Any, **how: Any) -> bool:
        if self.away:
            raise BrokerUnavailable("memory://", "it is away")
        self.told.append(dict(changed))
        return super().share(owner, changed, **how)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock) -> Log:
    return Log(clock)


def opened(census: Census, *channels: str, subject: str | None = None) -> Reader:
    reader = Reader(subject=subject)
    census.opened(reader, channels)
    return reader


def test_all_processes_are_summed(log: Log, clock: Clock) -> None:
    """Streams add up, a subject in two processes counts once, and one without is a stream."""
    one, two = Census(log, clock=clock), Census(log, clock=clock)
    opened(one, "a", "b", subject="7")
    opened(one, "a", subject="7")
    opened(two, "a", subject="7")
    opened(two, "a", subject="8")
    opened(two, "a")
    one.readers("a")
    two.tick()

    assert one.readers("a") == Readers(streams=5, subjects=2)
    assert two.readers("b") == Readers(streams=1, subjects=1)
    assert two.readers("c") == Readers(streams=0, subjects=0)


def test_nobody_asks(log: Log, clock: Clock) -> None:
    """Nothing is told while nobody asks, and nothing any more when nobody has for long."""
    census = Census(log, clock=clock)
    opened(census, "a")
    census.tick()
    assert log.told == []

    Census(log, clock=clock).readers("a")
    census.tick()
    assert len(log.told) == 1

    clock.now_s += 1000
    census.tick()
    opened(census, "a")
    census.tick()
    assert len(log.told) == 1
    assert log.shares("a") == []


def test_changes_are_told_together(log: Log, clock: Clock) -> None:
    """What changed is told at the next look, at once; nothing changed is nothing told."""
    census = Census(log, clock=clock)
    opened(census, "a")
    census.readers("a")
    readers = [opened(census, "b") for _ in range(5)]
    census.closed(readers[0], ("b",), EndReason.LEFT)
    census.tick()
    census.tick()

    assert log.told == [{"a": "[1, []]"}, {"b": "[4, []]"}]


def test_the_lease_is_renewed(log: Log, clock: Clock) -> None:
    """A process in which nothing changes stays; one that looks no more goes with its lease."""
    census, asker = Census(log, clock=clock), Census(log, clock=clock)
    opened(census, "a")
    asker.readers("a")
    for _ in range(3):
        census.tick()
        clock.now_s += LEASE_S / 2
    assert asker.readers("a").streams == 1

    clock.now_s += LEASE_S
    assert asker.readers("a").streams == 0

    census.tick()
    assert asker.readers("a").streams == 1


def test_one_that_was_sent_away_counts_not(log: Log, clock: Clock) -> None:
    """The end of a stream whose beginning was not told takes nothing away."""
    census = Census(log, clock=clock)
    opened(census, "a")
    census.closed(Reader(), ("a",), EndReason.REFUSED)
    census.opened(Reader(), ())

    assert census.readers("a").streams == 1


def test_the_last_one_leaves(log: Log, clock: Clock) -> None:
    """A process without streams has nothing in the log, and stops looking after a while."""
    census = Census(log, clock=clock)
    reader = opened(census, "a")
    census.readers("a")
    census.closed(reader, ("a",), EndReason.LEFT)

    assert [census.tick() for _ in range(_IDLE_TICKS + 1)] == [True] * _IDLE_TICKS + [False]
    assert not log.share(census._owner, {}, for_s=1)


def test_goodbye(log: Log, clock: Clock) -> None:
    """At the end of a process its share is gone, and no late look brings it back."""
    census = Census(log, clock=clock)
    opened(census, "a")
    census.readers("a")

    census.close()

    assert not census.tick()
    assert log.shares("a") == []


def test_the_broker_is_away(log: Log, clock: Clock) -> None:
    """Who asks is told that nobody knows; the looks go on, and tell the whole when it is back."""
    census = Census(log, clock=clock)
    opened(census, "a")
    census.readers("a")
    opened(census, "b")
    log.away = True

    assert census.tick()
    opened(census, "b")
    with pytest.raises(BrokerUnavailable):
        census.readers("b")

    log.away = False
    census.tick()
    assert log.told[-1] == {"a": "[1, []]", "b": "[2, []]"}


def test_many_channels_are_told_in_pieces(log: Log, clock: Clock) -> None:
    """No server is told thousands of channels at once."""
    census = Census(log, clock=clock)
    for number in range(1200):
        opened(census, str(number))
    census.readers("0")

    assert [len(told) for told in log.told] == [500, 500, 200]
    assert log.shares("1199") == ["[1, []]"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_a_forked_child_has_no_streams(log: Log, clock: Clock) -> None:
    """A child counts nothing of its parent's, and speaks under a name of its own."""
    census = Census(log, clock=clock)
    opened(census, "a")
    owner = census._owner
    child = os.fork()
    if child == 0:
        os._exit(0 if not census._counts and census._owner != owner else 1)

    assert os.waitpid(child, 0)[1] == 0
    assert census._counts
