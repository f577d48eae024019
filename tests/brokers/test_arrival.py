"""How a reader who missed nothing is live at once: every broker, with nothing lost or doubled."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from itertools import chain

import pytest

from brokers.hearing import Ear, Loop, Reader
from brokers.stores import Store
from flask_eventstream.brokers import Broker
from flask_eventstream.event import Event
from flask_eventstream.log.entries import Missed, Over, UpToDate
from harness.waiting import Deadline, wait_until

pytestmark = pytest.mark.real

Listen = Callable[..., Ear]

ARRIVALS = 150
EVENTS = 400


def publish(broker: Broker, channel: str, *texts: str) -> list[str]:
    return [broker.publish(channel, Event(text)) for text in texts]


def stand(ear: Ear, broker: Broker, *channels: str) -> None:
    """Let the listener be where the log is: some reader has been here before."""
    ear.subscribe(*channels)
    ear.replay(*channels, after=None)

    def follows() -> bool:
        reader = ear.arrive(broker, *channels)
        wait_until(lambda: reader.live, what="the reader to be live")
        return reader.at_once

    wait_until(follows, what="a reader to be live at once")


def test_a_fresh_reader_is_live_at_once(broker: Broker, listen: Listen) -> None:
    """Where others read the channel, a fresh reader needs no page, and gets the next event."""
    publish(broker, "a", "old")
    ear = listen(broker)
    stand(ear, broker, "a")

    reader = ear.arrive(broker, "a")
    wait_until(lambda: reader.live, what="the reader to be live")
    publish(broker, "a", "new")

    wait_until(lambda: reader.data, what="an event")
    assert reader.at_once
    assert reader.data == ["new"]


def test_who_was_away_and_missed_nothing_is_live_at_once(broker: Broker, listen: Listen) -> None:
    """A returning reader whose channel was silent needs no page, whatever others brought."""
    ear = listen(broker)
    (position,) = publish(broker, "a", "seen")
    publish(broker, "b", "noise")
    stand(ear, broker, "a")

    reader = ear.arrive(broker, "a", after=position)

    wait_until(lambda: reader.live, what="the reader to be live")
    assert reader.at_once
    assert reader.data == []


def test_who_missed_something_reads_it(broker: Broker, listen: Listen) -> None:
    """A reader who is behind arrives nowhere, and is given what it missed."""
    ear = listen(broker)
    (position,) = publish(broker, "a", "seen")
    publish(broker, "a", "missed")
    stand(ear, broker, "a")

    assert broker.arrive(["a"], position) == Missed()
    reader = ear.arrive(broker, "a", after=position)

    wait_until(lambda: reader.live, what="the reader to be live")
    assert not reader.at_once
    assert reader.data == ["missed"]


@pytest.mark.parametrize("after", ["nonsense", "00000000-7", ""])
def test_an_unknown_id_arrives_nowhere(broker: Broker, after: str) -> None:
    """A reader whose last event ID means nothing is not taken for one who has everything."""
    publish(broker, "a", "x")

    assert broker.arrive(["a"], after) == Missed()


def test_what_came_between_request_and_hub_is_not_lost(broker: Broker, listen: Listen) -> None:
    """An event that comes when the log was asked and before the stream is adopted is given."""
    publish(broker, "a", "old")
    ear = listen(broker)
    stand(ear, broker, "a")
    standing = broker.arrive(["a"], None)
    publish(broker, "a", "between")
    ear.wait_heard(1)

    assert not ear.follows(standing)


def test_what_is_on_its_way_does_not_come_twice(broker: Broker, listen: Listen) -> None:
    """A fresh reader is never given an event from before its request."""
    ear = listen(broker)
    stand(ear, broker, "a")
    for number in range(50):
        publish(broker, "a", f"before {number}")
        reader = ear.arrive(broker, "a")
        wait_until(lambda reader=reader: reader.live, what="the reader to be live")  # type: ignore[misc]
        publish(broker, "a", f"after {number}")
        wait_until(lambda reader=reader: reader.data, what="an event")  # type: ignore[misc]
        assert reader.data[0] == f"after {number}"


def test_the_end_is_told_on_arrival(broker: Broker) -> None:
    """A reader is told which channels are ended; it is over when all of them are."""
    publish(broker, "a", "x")
    publish(broker, "b", "x")
    broker.end("a")

    both, ended = broker.arrive(["a", "b"], None), broker.arrive(["a"], None)

    assert isinstance(both, UpToDate)
    assert both.page.ended == {"a"}
    assert ended == Over()


def test_nobody_loses_or_doubles_whoever_comes_when(store: Store, listen: Listen) -> None:
    """Readers who come while two processes publish get each later event once, in order."""
    broker, other = store.open(), store.open()
    publish(broker, "a", "first")
    ear = listen(broker)
    start = ear.replay("a", after=None).position
    chance = random.Random(7)
    stop = threading.Event()
    publishers = [
        threading.Thread(target=_publish_until, args=(store, stop, number)) for number in range(2)
    ]
    for thread in publishers:
        thread.start()
    readers: list[Reader] = []
    try:
        for _ in range(ARRIVALS):
            channels = chance.choice(["a", "b", "ab", "c", "abc"])
            seen = [entry.position for reader in readers[-20:] for entry in reader.entries[-1:]]
            after = chance.choice([None, None, *seen]) if seen else None
            readers.append(ear.arrive(chance.choice([broker, other]), *channels, after=after))
    finally:
        stop.set()
        for thread in publishers:
            thread.join()
    for channel in "abc":
        publish(broker, channel, "last")
    wait_until(
        lambda: all(r.live and r.data.count("last") == len(r.channels) for r in readers),
        what="every reader to have the last events",
    )

    logged = list(
        chain.from_iterable(page.entries for page in ear.replay_all("a", "b", "c", after=start))
    )
    for reader in readers:
        due = [entry for entry in logged if entry.channel in reader.channels]
        got = [entry.sequence for entry in reader.entries]
        assert got == [entry.sequence for entry in due[len(due) - len(got) :]]
        if reader.standing is not None:
            reached = reader.standing.page.sequence
            assert got == [entry.sequence for entry in due if entry.sequence > reached]


def _publish_until(store: Store, stop: threading.Event, number: int) -> None:
    broker, chance = store.open(), random.Random(number)
    for count in range(EVENTS):
        if stop.is_set():
            return
        publish(broker, chance.choice("abc"), f"{number}-{count}")
        stop.wait(chance.choice([0, 0, 0.001, 0.004]))


def test_a_delivery_that_the_loop_has_before_it_counts_as_under_way(
    broker: Broker, listen: Listen, loop: Loop
) -> None:
    """While the loop is busy, what its listener found meanwhile does not come twice."""
    ear = listen(broker)
    stand(ear, broker, "a")

    def arrive_late() -> bool:
        publish(broker, "a", "x")
        assert not wait_quietly(lambda: bool(ear.heard))
        standing = broker.arrive(["a"], None)
        assert isinstance(standing, UpToDate)
        return ear.listener.follow(standing)

    follows = loop.call(arrive_late)

    ear.wait_heard(1)
    assert not follows


def wait_quietly(condition: Callable[[], bool]) -> bool:
    """Whether something happens in a time in which every broker would have found it."""
    deadline = Deadline(0.2)
    while not deadline.passed and not condition():
        threading.Event().wait(0.01)
    return condition()
