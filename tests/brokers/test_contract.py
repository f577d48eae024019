"""What every broker does. The memory broker is the reference; each other passes the same tests."""

from __future__ import annotations

import enum
import random
import re
import threading
from collections.abc import Callable
from itertools import chain

import pytest

from brokers.hearing import Ear, Reader
from brokers.stores import Store
from flask_eventstream.brokers import Broker, check_channel
from flask_eventstream.errors import InvalidEvent
from flask_eventstream.event import Event
from flask_eventstream.log.entries import Entry, Kind, Missed, Retention
from harness.stage import has_ended
from harness.waiting import wait_until

pytestmark = pytest.mark.real

Listen = Callable[..., Ear]

#: More than a page of a replay, and not a multiple of one.
MANY = 600

#: Last event IDs that no log can place.
UNKNOWN = [
    *("", "nonsense", "-", "ż", "0" * 300, "a-1", "1-1", "00000000-5", "\0", "%", "'", "\ud800"),
    *("00000000-99999999999999999999", "m.00000000_00000000-1_00000000-1", "x" * 5000),
]


class Colour(str, enum.Enum):
    """What applications use as names."""

    RED = "red"


def publish(broker: Broker, channel: str, *texts: str) -> list[str]:
    return [broker.publish(channel, Event(text)) for text in texts]


def numbered(count: int, prefix: str = "") -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def data(entries: list[Entry]) -> list[str]:
    return [entry.event.data for entry in entries if entry.event]


# ---- live


def test_live_events_come_in_order(broker: Broker, listen: Listen) -> None:
    """A listener is given its channels' events in the order in which they were published."""
    ear = listen(broker, "a", "b")

    for number in range(50):
        publish(broker, "ab"[number % 2], str(number))

    ear.wait_heard(50)
    assert numbered(50) == ear.data


def test_live_order_is_the_order_of_the_log(broker: Broker, listen: Listen) -> None:
    """Whatever threads publish at once, a live reader and the log agree on the order."""
    ear = listen(broker, "a")
    start = ear.replay("a", after=None).position
    run_all([lambda n=n: publish(broker, "a", *numbered(100, f"{n}-")) for n in range(4)])

    ear.wait_heard(400)
    logged = list(chain.from_iterable(p.entries for p in ear.replay_all("a", after=start)))

    assert [entry.sequence for entry in logged] == [entry.sequence for entry in ear.heard]
    assert data(logged) == ear.data


def test_each_publisher_keeps_its_order(broker: Broker, listen: Listen) -> None:
    """What one thread publishes comes in its order, however many publish beside it."""
    ear = listen(broker, "a")
    run_all([lambda n=n: publish(broker, "a", *numbered(50, f"{n}-")) for n in range(4)])

    ear.wait_heard(200)

    for n in range(4):
        assert numbered(50, f"{n}-") == [text for text in ear.data if text.startswith(f"{n}-")]


def test_nothing_is_missed_after_subscribing(store: Store, listen: Listen) -> None:
    """An event that is published when `subscribe` has returned is delivered."""
    broker = store.open()
    publish(broker, "a", "old")
    for number in range(10):
        ear = listen(store.open(), "a")
        publish(broker, "a", str(number))
        ear.wait_heard(1)

        assert ear.data[0] == str(number)


def test_other_channels_are_not_delivered(broker: Broker, listen: Listen) -> None:
    """A listener hears of the channels that it subscribed to, and of no other."""
    ear = listen(broker, "a")

    publish(broker, "b", "not for you")
    publish(broker, "a", "for you")

    ear.wait_heard(1)
    assert ear.data == ["for you"]


def test_unsubscribed_channels_are_not_delivered(broker: Broker, listen: Listen) -> None:
    """After `unsubscribe` nothing more of the channel is delivered."""
    ear = listen(broker, "a", "b")
    ear.unsubscribe("a")

    publish(broker, "a", "not for you")
    publish(broker, "b", "for you")

    ear.wait_heard(1)
    assert ear.data == ["for you"]


def test_a_channel_can_be_subscribed_again(broker: Broker, listen: Listen) -> None:
    """A channel that was unsubscribed and subscribed again is delivered again."""
    ear = listen(broker, "a")
    ear.unsubscribe("a")
    ear.subscribe("a")

    publish(broker, "a", "again")

    ear.wait_heard(1)
    assert ear.data == ["again"]


def test_every_listener_hears_everything(store: Store, listen: Listen) -> None:
    """Two listeners of one log each get every event."""
    ears = [listen(store.open(), "a"), listen(store.open(), "a")]

    publish(store.open(), "a", *numbered(20))

    for ear in ears:
        ear.wait_heard(20)
        assert numbered(20) == ear.data


def test_nothing_is_delivered_after_stop(broker: Broker, listen: Listen) -> None:
    """A stopped listener delivers nothing more, while others go on."""
    stopped, going = listen(broker, "a"), listen(broker, "a")
    stopped.stop()

    publish(broker, "a", "x")

    going.wait_heard(1)
    assert stopped.data == []


def test_stop_may_come_twice(broker: Broker, listen: Listen) -> None:
    """Stopping a stopped listener changes nothing."""
    ear = listen(broker, "a")
    ear.stop()
    ear.stop()


def test_an_event_arrives_as_it_was(broker: Broker, listen: Listen) -> None:
    """Type, data, id and retry of an event survive the log, byte for byte."""
    event = Event(" a\r\nb\u2028\0ż🙂\n", type="tic ker", id="ä-1", retry=0)
    ear = listen(broker, "a")
    start = ear.replay("a", after=None).position

    broker.publish("a", event)

    ear.wait_heard(1)
    (logged,) = ear.replay("a", after=start).entries
    assert event == ear.heard[0].event == logged.event
    assert ear.heard[0].frame == logged.frame == event.encode()


@pytest.mark.parametrize("text", ["", "\n", " ", "x" * 1_000_000], ids=len)
def test_unusual_sizes_arrive(broker: Broker, listen: Listen, text: str) -> None:
    """Empty data, and a megabyte of it, arrive like any other."""
    ear = listen(broker, "a")

    broker.publish("a", Event(text))

    ear.wait_heard(1)
    assert ear.data == [text]


def test_no_own_id_is_a_position(broker: Broker) -> None:
    """An id that the log gave can't be published as an event's own."""
    position = broker.publish("a", Event("x"))

    with pytest.raises(InvalidEvent, match="could be a position"):
        Event("y", id=position)


def test_what_was_no_text_is_known(broker: Broker, listen: Listen) -> None:
    """A live event says whether its data was made JSON: a text may look the same."""
    ear = listen(broker, "a")

    for published in ({"a": 1}, '{"a": 1}', 7, "7"):
        broker.publish("a", Event(published))

    ear.wait_heard(4)

    assert [(e.event.data, e.event.is_json) for e in ear.heard if e.event] == [
        *(('{"a": 1}', True), ('{"a": 1}', False), ("7", True), ("7", False)),
    ]


def test_channel_names_are_not_patterns(broker: Broker, listen: Listen) -> None:
    """A channel name with signs that mean something to some store is just a name."""
    names = ["*", "a*", "?", "%", "a%", "a_b", "[a]", "'; --", "ä", "a b", "A", "a"]
    ear = listen(broker, *names)

    for name in names:
        publish(broker, name, name)

    ear.wait_heard(len(names))
    assert [(name, name) for name in names] == [
        (entry.channel, entry.event.data) for entry in ear.heard if entry.event
    ]


# ---- ids


def test_publish_returns_the_id_that_readers_get(broker: Broker, listen: Listen) -> None:
    """Without an own id, `publish` returns the entry's position, which is its id on the wire."""
    ear = listen(broker, "a")

    (position,) = publish(broker, "a", "x")

    ear.wait_heard(1)
    assert position == ear.heard[0].position
    assert f"\nid: {position}\n".encode() in ear.heard[0].frame


def test_publish_returns_an_own_id(broker: Broker) -> None:
    """An event's own id is what `publish` returns."""
    assert broker.publish("a", Event("x", id="mine")) == "mine"


def test_positions_need_no_preflight(broker: Broker) -> None:
    """A position is made of safe characters, and below 128 bytes."""
    for position in publish(broker, "a", *numbered(20)):
        assert re.fullmatch("[A-Za-z0-9._-]{1,128}", position)


def test_positions_are_never_given_twice(broker: Broker) -> None:
    """No two events of a log have the same position, on whatever channels."""
    positions = publish(broker, "a", *numbered(20)) + publish(broker, "b", *numbered(20))

    assert len(set(positions)) == 40


# ---- replay


def test_a_fresh_reader_gets_nothing_old(broker: Broker, listen: Listen) -> None:
    """A reader without a position is told where the log stands, and given nothing."""
    publish(broker, "a", "old")

    replay = listen(broker).replay("a", after=None)

    assert not replay.entries
    assert not replay.gone
    assert not replay.more


def test_an_empty_log_has_a_position(broker: Broker, listen: Listen) -> None:
    """A reader that came before the first event ever resumes with all of them."""
    ear = listen(broker)
    position = ear.replay("a", after=None).position

    publish(broker, "a", *numbered(3))

    replay = ear.replay("a", after=position)
    assert numbered(3) == data(replay.entries)
    assert not replay.gone


@pytest.mark.parametrize("seen", [0, 1, 5, 9])
def test_replay_gives_everything_later_once(broker: Broker, listen: Listen, seen: int) -> None:
    """A reader who has seen an event gets exactly those after it, in order."""
    ids = publish(broker, "a", *numbered(10))

    replay = listen(broker).replay("a", after=ids[seen])

    assert numbered(10)[seen + 1 :] == data(replay.entries)
    assert not replay.gone


def test_replay_merges_channels_in_order(broker: Broker, listen: Listen) -> None:
    """A reader of several channels gets them in the order of publishing, and no other channel."""
    ear = listen(broker)
    start = ear.replay("a", "b", after=None).position
    for number in range(30):
        publish(broker, "abc"[number % 3], str(number))

    replay = ear.replay("a", "b", after=start)

    assert [str(n) for n in range(30) if n % 3 != 2] == data(replay.entries)


def test_long_replays_come_in_pages(broker: Broker, listen: Listen) -> None:
    """A reader far behind gets everything once, in pages of at most 256 entries."""
    ear = listen(broker)
    start = ear.replay("a", after=None).position
    publish(broker, "a", *numbered(MANY))

    pages = ear.replay_all("a", after=start)

    assert max(len(page.entries) for page in pages) <= 256
    assert numbered(MANY) == data(list(chain.from_iterable(page.entries for page in pages)))


def test_large_events_make_short_pages(broker: Broker, listen: Listen) -> None:
    """A page ends after a megabyte or so of data, and the next one goes on there."""
    ear = listen(broker)
    start = ear.replay("a", after=None).position
    texts = [letter * 400_000 for letter in "abcdefg"]
    publish(broker, "a", *texts)

    pages = ear.replay_all("a", after=start)

    assert max(sum(len(entry.frame) for entry in page.entries) for page in pages) < 1_500_000
    assert texts == data(list(chain.from_iterable(page.entries for page in pages)))


def test_a_page_says_how_far_it_reaches(broker: Broker, listen: Listen) -> None:
    """No entry of a page lies beyond its reach, and none of the next lies within it."""
    ear = listen(broker)
    start = ear.replay("a", "b", after=None).position
    for number in range(MANY):
        publish(broker, "ab"[number % 2], str(number))

    first, *others = ear.replay_all("a", "b", after=start)

    assert others
    assert max(entry.sequence for entry in first.entries) <= first.sequence
    assert min(entry.sequence for entry in others[0].entries) > first.sequence


def test_a_page_of_exactly_a_page_is_the_last(broker: Broker, listen: Listen) -> None:
    """When just one page is due, no other is promised."""
    ear = listen(broker)
    start = ear.replay("a", after=None).position
    publish(broker, "a", *numbered(256))

    replay = ear.replay("a", after=start)

    assert len(replay.entries) == 256
    assert not replay.more


def test_replay_sees_what_was_published_before(store: Store, listen: Listen) -> None:
    """What `publish` has returned for is in any later replay."""
    publisher, ear = store.open(), listen(store.open())
    start = ear.replay("a", after=None).position

    for number in range(20):
        publish(publisher, "a", str(number))
        assert numbered(number + 1) == data(ear.replay("a", after=start).entries)


# ---- own ids


def test_an_own_id_is_a_point_to_resume_from(broker: Broker, listen: Listen) -> None:
    """A reader whose last event had an own id gets exactly what came after it."""
    publish(broker, "a", "before")
    broker.publish("a", Event("x", id="order-7"))
    publish(broker, "a", "after")

    replay = listen(broker).replay("a", after="order-7")

    assert data(replay.entries) == ["after"]
    assert not replay.gone


def test_an_own_id_counts_for_all_channels_of_a_reader(broker: Broker, listen: Listen) -> None:
    """The own id of one channel's event is a place in every channel that the reader has."""
    publish(broker, "a", "a1")
    publish(broker, "b", "b1")
    broker.publish("b", Event("x", id="order-7"))
    publish(broker, "b", "b2")
    publish(broker, "a", "a2")

    replay = listen(broker).replay("a", "b", after="order-7")

    assert data(replay.entries) == ["b2", "a2"]
    assert not replay.gone


def test_an_own_id_that_repeats_is_no_place(broker: Broker, listen: Listen) -> None:
    """Which of two events of one id a reader has seen nobody knows: it is reset, and given all."""
    for text, own_id in (("paid", "17"), ("packed", "17"), ("x", "18"), ("shipped", "17")):
        broker.publish("a", Event(text, id=own_id))

    replay = listen(broker).replay("a", after="17")

    assert broker.arrive(["a"], "17") == Missed()
    assert replay.gone == {"a"}
    assert data(replay.entries) == ["paid", "packed", "x", "shipped"]


def test_an_own_id_that_repeats_between_channels_is_no_place(
    broker: Broker, listen: Listen
) -> None:
    """For who reads both channels an id that stands in each is no place; in one of them it is."""
    for channel in ("a", "b"):
        publish(broker, channel, f"before {channel}")
        broker.publish(channel, Event("same", id="same"))
    publish(broker, "a", "after")

    both = listen(broker).replay("a", "b", after="same")
    one = listen(broker).replay("a", after="same")

    assert both.gone == {"a", "b"}
    assert data(both.entries) == ["before a", "same", "before b", "same", "after"]
    assert (one.gone, data(one.entries)) == (frozenset(), ["after"])


def test_an_own_id_that_stood_there_before_is_no_place(store: Store, listen: Listen) -> None:
    """An id is no place either where the history has only the second of its events."""
    broker = store.open(Retention(length=2))
    for own_id in ("same", "between", "same", "last"):
        broker.publish("a", Event(own_id, id=own_id))

    replay = listen(broker).replay("a", after="same")

    assert replay.gone == {"a"}
    assert data(replay.entries) == ["same", "last"]


def test_an_own_id_may_have_a_positions_shape(broker: Broker, listen: Listen) -> None:
    """An own id of a word and a number is looked up, although a position is one, too."""
    broker.publish("a", Event("x", id="customer-12"))
    publish(broker, "a", "after")

    replay = listen(broker).replay("a", after="customer-12")

    assert (replay.gone, data(replay.entries)) == (frozenset(), ["after"])


def test_an_own_id_of_another_channel_is_unknown(broker: Broker, listen: Listen) -> None:
    """An own id says nothing about channels in which no such event was published."""
    broker.publish("b", Event("x", id="order-7"))

    assert listen(broker).replay("a", after="order-7").gone == {"a"}


def test_an_own_id_of_an_enum_is_its_value(broker: Broker, listen: Listen) -> None:
    """Text that is an enum's member is published as its value, whatever its name."""
    ear = listen(broker, "red")

    broker.publish(check_channel(Colour.RED), Event(Colour.RED, type=Colour.RED, id=Colour.RED))

    ear.wait_heard(1)
    assert ear.heard[0].channel == "red"
    assert ear.heard[0].frame == b"event: red\ndata: red\nid: red\n\n"


# ---- what is gone


@pytest.mark.parametrize("unknown", UNKNOWN, ids=range(len(UNKNOWN)))
def test_after_an_unknown_id_comes_what_is_there(
    broker: Broker, listen: Listen, unknown: str
) -> None:
    """For an id that the log can't place, every channel is reported, and what there is given."""
    publish(broker, "a", *numbered(3))

    replay = listen(broker).replay("a", "b", after=unknown)

    assert broker.arrive(["a", "b"], unknown) == Missed()
    assert replay.gone == {"a", "b"}
    assert numbered(3) == data(replay.entries)
    assert not replay.more


def test_after_an_unknown_id_the_reader_goes_on(broker: Broker, listen: Listen) -> None:
    """Who breaks off after the reset gets all of it again, and who has it, what is new."""
    publish(broker, "a", *numbered(3))
    ear = listen(broker)
    replay = ear.replay("a", after="nonsense")
    publish(broker, "a", "next")

    for position, missed in ((replay.start, numbered(3)), (replay.position, [])):
        resumed = ear.replay("a", after=position)
        assert ([*missed, "next"], frozenset()) == (data(resumed.entries), resumed.gone)


def test_after_an_unknown_id_come_pages(broker: Broker, listen: Listen) -> None:
    """A reset for an id of nobody's costs a page at a time, like any other way back."""
    publish(broker, "a", *numbered(MANY))

    pages = listen(broker).replay_all("a", after="nonsense")

    assert max(len(page.entries) for page in pages) <= 256
    assert numbered(MANY) == data(list(chain.from_iterable(page.entries for page in pages)))
    assert [bool(page.gone) for page in pages] == [True, *([False] * (len(pages) - 1))]


def test_after_an_unknown_id_comes_no_more_than_the_history(store: Store, listen: Listen) -> None:
    """An invented id gives nothing that the history's length and age exclude."""
    broker = store.open(Retention(length=5, age_s=60))
    publish(broker, "a", *numbered(20))
    publish(broker, "b", "old")
    store.clock.advance(61)
    publish(broker, "b", "new")
    ear = listen(broker)

    assert data(ear.replay("b", after="nonsense").entries) == ["new"]
    assert data(ear.replay("a", after="nonsense").entries) == []


def test_a_position_from_the_future_is_unknown(broker: Broker, listen: Listen) -> None:
    """A position that the log has not reached is none of its own, so something is gone."""
    (position,) = publish(broker, "a", "x")
    epoch, _, sequence = position.rpartition("-")

    for later in (int(sequence) + 1, 10**18, 9_999_999_999_999_999_999):
        replay = listen(broker).replay("a", after=f"{epoch}-{later}")
        assert (replay.gone, data(replay.entries)) == ({"a"}, ["x"])


def test_a_position_of_another_log_is_unknown(store: Store, listen: Listen) -> None:
    """A position of another log proves nothing here, however likely its number."""
    publish(store.open(), "a", *numbered(5))
    foreign = publish(store.open_other(), "a", *numbered(3))

    replay = listen(store.open()).replay("a", after=foreign[1])

    assert replay.gone == {"a"}
    assert numbered(5) == data(replay.entries)


def test_only_so_many_events_are_kept(store: Store, listen: Listen) -> None:
    """A reader further behind than the history's length gets just that much, and is told."""
    broker = store.open(Retention(length=5))
    ids = publish(broker, "a", *numbered(20))

    replay = listen(broker).replay("a", after=ids[0])

    assert numbered(20)[-5:] == data(replay.entries)
    assert replay.gone == {"a"}


def test_who_misses_nothing_is_told_nothing(store: Store, listen: Listen) -> None:
    """A reader exactly as far behind as the history is long gets all of it, and no reset."""
    broker = store.open(Retention(length=5))
    ids = publish(broker, "a", *numbered(20))

    replay = listen(broker).replay("a", after=ids[-6])

    assert numbered(20)[-5:] == data(replay.entries)
    assert not replay.gone


def test_only_the_channel_that_lost_something_is_told(store: Store, listen: Listen) -> None:
    """Of a reader's channels, those whose history is complete are not reported."""
    broker = store.open(Retention(length=5))
    ear = listen(broker)
    start = ear.replay("busy", "calm", after=None).position
    publish(broker, "calm", "c")
    publish(broker, "busy", *numbered(20))

    replay = ear.replay("busy", "calm", "silent", after=start)

    assert replay.gone == {"busy"}
    assert ["c", *numbered(20)[-5:]] == data(replay.entries)


def test_no_second_reset_after_the_first(store: Store, listen: Listen) -> None:
    """Who resumes at `start`, right after a reset, gets every entry of the page, and no reset."""
    broker = store.open(Retention(length=5))
    ear = listen(broker)
    ids = publish(broker, "a", *numbered(20))
    publish(broker, "b", *numbered(9))  # so that places between a's events belong to another

    replay = ear.replay("a", after=ids[0])
    resumed = ear.replay("a", after=replay.start)

    assert replay.gone == {"a"}
    assert not resumed.gone
    assert data(replay.entries) == data(resumed.entries)


def test_no_history_at_all_is_possible(store: Store, listen: Listen) -> None:
    """With a history of no events, live readers get all and returning ones a reset."""
    broker = store.open(Retention(length=0))
    ear = listen(broker, "a")
    ids = publish(broker, "a", *numbered(5))

    ear.wait_heard(5)
    replay = ear.replay("a", after=ids[0])

    assert numbered(5) == ear.data
    assert replay.gone == {"a"}
    assert not replay.entries
    assert not ear.replay("a", after=ids[-1]).gone


def test_events_get_too_old(store: Store, listen: Listen) -> None:
    """An event older than the history's age is not given, and its reader is told."""
    broker = store.open(Retention(age_s=60))
    ear = listen(broker)
    start = ear.replay("a", after=None).position
    publish(broker, "a", "old")
    store.clock.advance(61)
    publish(broker, "a", "new")

    replay = ear.replay("a", after=start)

    assert data(replay.entries) == ["new"]
    assert replay.gone == {"a"}
    assert not ear.replay("a", after=replay.start).gone


def test_events_not_yet_too_old_are_given(store: Store, listen: Listen) -> None:
    """An event younger than the history's age is given, however late its reader."""
    broker = store.open(Retention(age_s=60))
    ear = listen(broker)
    start = ear.replay("a", after=None).position
    publish(broker, "a", "x")
    store.clock.advance(59)

    replay = ear.replay("a", after=start)

    assert data(replay.entries) == ["x"]
    assert not replay.gone


def test_who_has_seen_it_may_stay_away(store: Store, listen: Listen) -> None:
    """A reader who has seen everything is told of no loss, however old it all is."""
    broker = store.open(Retention(age_s=60))
    ids = publish(broker, "a", *numbered(3))
    store.clock.advance(3600)

    assert not listen(broker).replay("a", after=ids[-1]).gone


def test_a_clock_that_steps_back_loses_nothing(store: Store, listen: Listen) -> None:
    """After the clock was set back no event vanishes between two that are given."""
    broker = store.open(Retention(age_s=60))
    ear = listen(broker)
    start = ear.replay("a", after=None).position
    publish(broker, "a", "1")
    store.clock.advance(-50)
    publish(broker, "a", "2")
    store.clock.advance(50)
    publish(broker, "a", "3")
    store.clock.advance(30)

    replay = ear.replay("a", after=start)

    assert data(replay.entries) == ["1", "2", "3"]
    assert not replay.gone


def test_retention_counts_each_channel_alone(store: Store, listen: Listen) -> None:
    """A busy channel takes nothing from a calm one's history."""
    broker = store.open(Retention(length=5))
    (start, *_) = publish(broker, "calm", *numbered(3))
    publish(broker, "busy", *numbered(500))

    replay = listen(broker).replay("calm", after=start)

    assert data(replay.entries) == ["1", "2"]
    assert not replay.gone


# ---- ended channels


def test_a_new_channel_has_not_ended(broker: Broker) -> None:
    """Neither a channel that nobody used nor one with events counts as ended."""
    (position,) = publish(broker, "a", "x")

    assert not has_ended(broker, ["a"], None)
    assert not has_ended(broker, ["a"], position)
    assert not has_ended(broker, ["unused"], None)


def test_the_end_is_delivered(broker: Broker, listen: Listen) -> None:
    """A live reader gets the channel's end as an entry, after everything before it."""
    ear = listen(broker, "a")
    publish(broker, "a", "last")
    broker.end("a")

    ear.wait_heard(2)

    assert [entry.kind for entry in ear.heard] == [Kind.EVENT, Kind.END]
    assert b'event: stream-end\ndata: {"channels": ["a"]}\n' in ear.heard[1].frame


def test_the_end_is_replayed(broker: Broker, listen: Listen) -> None:
    """A returning reader gets the end in its place, and the page says that it is ended."""
    (position,) = publish(broker, "a", "x")
    broker.end("a")

    replay = listen(broker).replay("a", "b", after=position)

    assert [entry.kind for entry in replay.entries] == [Kind.END]
    assert replay.ended == {"a"}


def test_a_channel_has_ended_for_who_has_seen_the_end(broker: Broker, listen: Listen) -> None:
    """An ended channel is over for a fresh reader and for one behind the end, not before it."""
    (position,) = publish(broker, "a", "x")
    broker.end("a")
    end = listen(broker).replay("a", after=position).entries[-1].position

    assert has_ended(broker, ["a"], None)
    assert has_ended(broker, ["a"], end)
    assert not has_ended(broker, ["a"], position)
    assert not has_ended(broker, ["a"], "nonsense")


def test_all_channels_must_have_ended(broker: Broker) -> None:
    """A reader of several channels is done when each of them is ended."""
    broker.end("a")
    assert not has_ended(broker, ["a", "b"], None)

    broker.end("b")
    assert has_ended(broker, ["a", "b"], None)


def test_an_event_opens_the_channel_again(broker: Broker, listen: Listen) -> None:
    """An event after the end opens the channel for everybody."""
    ear = listen(broker, "a")
    broker.end("a")
    (position,) = publish(broker, "a", "again")

    ear.wait_heard(2)

    assert ear.data == ["again"]
    assert not has_ended(broker, ["a"], None)
    assert not has_ended(broker, ["a"], position)
    assert not ear.replay("a", after=None).ended


def test_the_end_outlives_the_history(store: Store, listen: Listen) -> None:
    """A channel stays ended when its entries are too old to be given."""
    broker = store.open(Retention(age_s=60))
    (position,) = publish(broker, "a", "x")
    broker.end("a")
    store.clock.advance(120)

    replay = listen(broker).replay("a", after=position)

    assert has_ended(broker, ["a"], None)
    assert replay.ended == {"a"}
    assert replay.gone == {"a"}


# ---- going live


@pytest.mark.parametrize("seed", range(3))
def test_going_live_has_no_gap_and_no_double(store: Store, listen: Listen, seed: int) -> None:
    """Readers that attach while threads publish get every later event, once, in order.

    Some are fresh and some resume, on one channel and on several; each one's entries must be
    exactly the log's, from the first that it got to the last.
    """
    chance = random.Random(seed)
    ear, watcher = listen(store.open()), listen(store.open(), "a", "b")
    first = ear.replay("a", "b", after=None).position
    ids = [first]
    publishers = [threading.Thread(target=publish_mixed, args=(store.open(), n)) for n in range(4)]
    for thread in publishers:
        thread.start()
    readers: list[tuple[Reader, str | None]] = []
    while any(thread.is_alive() for thread in publishers):
        after = chance.choice([None, *ids])
        channels = chance.choice([("a",), ("b",), ("a", "b")])
        readers.append((ear.attach(*channels, after=after), after))
        ids += [entry.position for entry in watcher.heard[-1:]]
        wait_until(lambda: readers[-1][0].live, what="the reader to be live")
    publish(store.open(), "a", "end")
    publish(store.open(), "b", "end")
    watcher.wait_heard(4 * 150 + 2)

    for reader, after in readers:
        wait_until(lambda reader=reader: reader.data[-1:] == ["end"], what="the last event")
        expected = [entry for entry in watcher.heard if entry.channel in reader.channels]
        if len(reader.channels) == 2:
            wait_until(lambda reader=reader: reader.data[-2:] == ["end"] * 2, what="the last two")
        if after is None:
            expected = expected[-len(reader.entries) :]
        elif after != first:
            place = next(entry.sequence for entry in watcher.heard if entry.position == after)
            expected = [entry for entry in expected if entry.sequence > place]
        assert [entry.position for entry in expected] == [e.position for e in reader.entries]
        assert not reader.resets


def publish_mixed(broker: Broker, publisher: int) -> None:
    for number in range(150):
        publish(broker, "ab"[(publisher + number) % 2], f"{publisher}-{number}")


def run_all(tasks: list[Callable[[], object]]) -> None:
    threads = [threading.Thread(target=task) for task in tasks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
