"""One event to many channels, in every broker: what `publish_to` promises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from brokers.hearing import Ear
from brokers.stores import Store
from flask_eventstream.brokers import Broker, broker_from_url
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.event import Event
from flask_eventstream.log.entries import Retention
from harness.redis_server import run_redis

pytestmark = pytest.mark.real

Listen = Callable[..., Ear]

#: More than one piece in Redis, and not a multiple of one.
MANY = [f"user:{number}" for number in range(250)]


def test_every_channel_has_the_event(broker: Broker, listen: Listen) -> None:
    """A listener of all channels is given the event once in each, in their order."""
    ear = listen(broker, *MANY)

    broker.publish_to(MANY, Event({"n": 1}, type="note", retry=5))

    ear.wait_heard(len(MANY))
    assert [entry.channel for entry in ear.heard] == MANY
    assert {entry.event for entry in ear.heard} == {Event('{"n": 1}', type="note", retry=5)}
    assert all(entry.event.is_json for entry in ear.heard if entry.event)


def test_the_ids_are_those_of_the_log(broker: Broker, listen: Listen) -> None:
    """Who comes back with a channel's id gets what that channel brought after it, and no more."""
    ear = listen(broker, *MANY)

    ids = broker.publish_to(MANY, Event("x"))
    later = broker.publish_to(MANY[:120], Event("y"))

    ear.wait_heard(370)
    assert [entry.position for entry in ear.heard] == [*ids, *later]
    for number in (0, 99, 100, 119, 120, 249):
        page = ear.replay(MANY[number], after=ids[number])
        assert [e.event.data for e in page.entries if e.event] == ["y"] * (number < 120)
        assert not page.gone


def test_one_channel_alone(broker: Broker, listen: Listen) -> None:
    """One channel is as good as many."""
    ear = listen(broker, "a")

    (position,) = broker.publish_to(["a"], Event("x"))

    ear.wait_heard(1)
    assert position == ear.heard[0].position


def test_no_channel_is_nothing(broker: Broker, listen: Listen) -> None:
    """Without a channel nothing is published, and the log is as it was."""
    ear = listen(broker, "a")
    before = ear.replay("a", after=None).position

    assert broker.publish_to([], Event("x")) == []

    assert ear.replay("a", after=None).position == before


def test_own_ids_are_found_in_each_channel(broker: Broker, listen: Listen) -> None:
    """An event's own id is its id in each channel, and a place to resume from there."""
    ear = listen(broker, "a", "b")

    ids = broker.publish_to(["a", "b"], Event("x", id="own-1"))
    broker.publish("b", Event("y"))

    assert ids == ["own-1", "own-1"]
    assert [e.event.data for e in ear.replay("b", after="own-1").entries if e.event] == ["y"]
    assert not ear.replay("a", after="own-1").entries


def test_a_repeated_own_id_is_no_place(broker: Broker, listen: Listen) -> None:
    """An own id that a channel had before is no place in it, and still one in another."""
    ear = listen(broker, "a", "b")
    broker.publish("a", Event("x", id="own-1"))

    broker.publish_to(["a", "b"], Event("y", id="own-1"))

    assert ear.replay("a", after="own-1").gone == {"a"}
    assert not ear.replay("b", after="own-1").gone


def test_an_ended_channel_is_opened_again(broker: Broker, listen: Listen) -> None:
    """As any event, it opens a channel that was ended."""
    ear = listen(broker, "a", "b")
    broker.end("a")

    broker.publish_to(["a", "b"], Event("x"))

    assert not ear.replay("a", after=None).ended


def test_it_counts_for_the_retention(store: Store, listen: Listen) -> None:
    """Readers get no more than the history's length of each channel, and are told of a gap."""
    broker = store.open(Retention(length=3))
    ear = listen(broker, "a", "b")
    start = ear.replay("a", after=None).position

    for number in range(200):
        broker.publish_to(["a", "b"], Event(str(number)))

    for channel in ("a", "b"):
        pages = ear.replay_all(channel, after=start)
        found = [e.event.data for page in pages for e in page.entries if e.event]
        assert found[-3:] == ["197", "198", "199"]
        assert len(found) < 10
        assert pages[0].gone == {channel}


def test_single_events_and_many_share_one_order(broker: Broker, listen: Listen) -> None:
    """Events published one by one and to many channels are in the order of their publishing."""
    ear = listen(broker, "a", "b")

    broker.publish("a", Event("1"))
    broker.publish_to(["b", "a"], Event("2"))
    broker.publish("b", Event("3"))

    ear.wait_heard(4)
    assert [(e.channel, e.event.data) for e in ear.heard if e.event] == [
        ("a", "1"),
        ("b", "2"),
        ("a", "2"),
        ("b", "3"),
    ]


def test_sqlite_takes_all_or_none(tmp_path: Path, listen: Listen) -> None:
    """Where SQLite fails at the last channel, none has the event."""
    broker = broker_from_url(f"sqlite:///{tmp_path}/events.db", retention=None, timeout_s=5)
    ear = listen(broker, "a")
    before = ear.replay("a", after=None).position

    with pytest.raises(UnicodeEncodeError):
        broker.publish_to(["a", "\ud800"], Event("x"))

    assert ear.replay("a", after=None).position == before
    broker.close()


def test_redis_says_how_far_it_came() -> None:
    """Where Redis fails on the way, the error says how many channels are known to have it."""
    with run_redis() as server:
        broker = broker_from_url(server.url, retention=None, timeout_s=5)
        server.ask("SET", "sse:events:{user:150}", "somebody else's")

        with pytest.raises(BrokerUnavailable) as raised:
            broker.publish_to(MANY, Event("x"))

        assert raised.value.in_doubt
        assert "100 of 250 channels have the event, some of the rest may have" in str(raised.value)
        assert server.ask("XLEN", "sse:events:{user:149}") == 1
        assert server.ask("EXISTS", "sse:events:{user:200}") == 0
        broker.close()


def test_redis_takes_few_round_trips() -> None:
    """A script call takes a hundred channels, and fewer where the event is large."""
    with run_redis() as server:
        broker = broker_from_url(server.url, retention=None, timeout_s=5)
        broker.publish_to(MANY, Event("x"))
        server.ask("CONFIG", "RESETSTAT")

        broker.publish_to(MANY, Event("x"))
        broker.publish_to(MANY[:10], Event("x" * 100_000))

        assert server.info("commandstats")["cmdstat_evalsha"]["calls"] == 3 + 5
        broker.close()
