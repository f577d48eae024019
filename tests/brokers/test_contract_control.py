"""What every broker does beside events: control entries, records, and a channel's newest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from brokers.hearing import Ear
from brokers.stores import Store
from flask_eventstream.brokers import HasControl, HasHistory, HasRecords
from flask_eventstream.event import Event
from flask_eventstream.log.entries import CONTROL_CHANNEL, PAGE, PAGE_SIZE, Kind, Retention

pytestmark = pytest.mark.real

Listen = Callable[..., Ear]

TEXT = '{"subject": "üsér \\"7\\"\\n"}'


def texts(entries: Any) -> list[str]:
    return [entry.event.data for entry in entries]


def test_every_broker_has_all_of_it(broker: Any) -> None:
    """No broker of ours lacks control entries, records or a history."""
    assert isinstance(broker, HasControl)
    assert isinstance(broker, HasRecords)
    assert isinstance(broker, HasHistory)


# ---- control entries


def test_a_control_entry_is_heard(store: Store, listen: Listen) -> None:
    """Who listens to the control channel hears an entry of it, word for word, without bytes."""
    ear = listen(store.open(), CONTROL_CHANNEL, "a")

    position = store.open().control(TEXT)  # type: ignore[attr-defined]

    ear.wait_heard(1)
    (entry,) = ear.heard
    assert (entry.channel, entry.kind, entry.event.data) == (CONTROL_CHANNEL, Kind.CONTROL, TEXT)
    assert entry.position == position
    assert entry.frame == b""


def test_a_control_entry_is_in_the_log(store: Store, listen: Listen) -> None:
    """Who comes with a position from before it is given a control entry from the log."""
    broker: Any = store.open()
    ear = listen(broker)
    start = broker.control("before")

    broker.control(TEXT)

    reader = ear.attach_live(CONTROL_CHANNEL, after=start)
    assert reader.data == [TEXT]
    assert [entry.kind for entry in reader.entries] == [Kind.CONTROL]
    assert not reader.resets


def test_readers_of_other_channels_get_no_control_entry(store: Store, listen: Listen) -> None:
    """A control entry goes to nobody who reads channels of the application's."""
    broker: Any = store.open()
    ear = listen(broker, "a", "control", "_control")

    broker.control(TEXT)
    broker.publish("a", Event("after it"))

    ear.wait_heard_data("after it")
    assert ear.data == ["after it"]


def test_lost_control_entries_are_reported(store: Store, listen: Listen) -> None:
    """Where control entries are too old to be read, whoever needs them is told."""
    broker: Any = store.open(Retention(length=10, age_s=60))
    ear = listen(broker)
    start = broker.control("first")
    broker.control("lost")
    store.clock.advance(120)

    reader = ear.attach_live(CONTROL_CHANNEL, after=start)

    assert reader.resets == [frozenset([CONTROL_CHANNEL])]


# ---- records


def test_a_record_is_recalled(store: Store) -> None:
    """What one connection remembered another recalls, and the last word counts."""
    one: Any = store.open()
    one.remember("a-name_1", "first", for_s=60)
    one.remember("a-name_1", TEXT, for_s=60)

    other: Any = store.open()

    assert other.recall("a-name_1") == TEXT
    assert other.recall("another") is None


def test_a_record_outlives_the_events(store: Store) -> None:
    """A record lasts as long as it was told, and no longer, whatever the retention of events."""
    broker: Any = store.open(Retention(length=1, age_s=1))
    broker.remember("long", "kept", for_s=1000)
    broker.remember("short", "gone", for_s=10)

    store.clock.advance(100)
    for number in range(600):  # enough for every broker to clean up
        broker.publish("a", Event(str(number)))
    broker.remember("next", "", for_s=10)

    assert broker.recall("long") == "kept"
    assert broker.recall("short") is None


def test_another_log_has_other_records(store: Store) -> None:
    """Logs of one kind do not share what they remember."""
    one: Any = store.open()
    one.remember("name", "text", for_s=60)

    other: Any = store.open_other()

    assert other.recall("name") is None


# ---- a channel's newest


def test_newest_gives_the_last_ones(store: Store) -> None:
    """The last entries of a channel come oldest first, with positions and ends, of no other."""
    broker: Any = store.open()
    ids = [broker.publish("a", Event(str(number))) for number in range(5)]
    broker.publish("b", Event("other"))

    assert texts(broker.newest("a", 3)) == ["2", "3", "4"]
    assert [entry.position for entry in broker.newest("a", 10)] == ids
    assert list(broker.newest("nothing", 3)) == []

    broker.end("a")
    assert [entry.kind for entry in broker.newest("a", 2)] == [Kind.EVENT, Kind.END]


def test_newest_is_bounded_in_number(store: Store) -> None:
    """However many are asked for, and are there, a page is the most."""
    broker: Any = store.open(Retention(length=1000))
    broker.publish_many("a", [Event(str(number)) for number in range(PAGE + 50)])

    assert texts(broker.newest("a", 10_000)) == [str(n) for n in range(50, PAGE + 50)]


def test_newest_is_bounded_in_bytes(store: Store) -> None:
    """Of large events it gives about a page's size: the newest at least."""
    broker: Any = store.open()
    for number in range(8):
        broker.publish("a", Event(str(number) * (PAGE_SIZE // 3)))

    newest = broker.newest("a", 100)

    assert [text[0] for text in texts(newest)][-2:] == ["6", "7"]
    assert len(newest) <= 4


def test_newest_gives_nothing_too_old(store: Store) -> None:
    """What readers may not get any more is no history."""
    broker: Any = store.open(Retention(length=3, age_s=60))
    broker.publish("a", Event("old"))
    store.clock.advance(120)

    assert list(broker.newest("a", 10)) == []

    broker.publish("a", Event("new"))

    assert texts(broker.newest("a", 10)) == ["new"]
