"""The values that a log gives."""

from __future__ import annotations

from flask_eventstream.event import Event
from flask_eventstream.log.entries import Entry, Kind, Place, Replay, Retention


def test_an_entrys_frame_carries_its_position() -> None:
    """The bytes of an entry are its event's, with the position to resume from as their id."""
    entry = Entry("a", 7, "p-7", Event("x", type="t"))

    assert entry.frame == b"event: t\ndata: x\nid: p-7\n\n"


def test_an_entrys_frame_carries_an_own_id() -> None:
    """An event's own id stands on the wire in the position's place."""
    assert Entry("a", 7, "p-7", Event("x", id="own")).frame == b"data: x\nid: own\n\n"


def test_an_end_is_an_event_of_the_stream() -> None:
    """The entry of a channel's end says so to its readers."""
    entry = Entry.end("a", 7, "p-7")

    assert entry.frame == b'event: stream-end\ndata: {"channels": ["a"]}\nid: p-7\n\n'


def test_a_control_is_nothing_that_a_reader_gets() -> None:
    """What the processes tell each other has no bytes."""
    assert Entry("a", 7, "p-7", None, Kind.CONTROL).frame == b""


def test_a_frame_can_name_another_position() -> None:
    """Readers whose id is made of several positions get the same event with that id."""
    assert Entry("a", 7, "p-7", Event("x")).encode("m.1_p-7_q-3") == (
        b"data: x\nid: m.1_p-7_q-3\n\n"
    )
    assert b"id: other\n" in Entry.end("a", 7, "p-7").encode("other")


def test_one_log_reaches_as_far_in_every_channel() -> None:
    """Where one log holds all channels, a page reaches the same sequence in each."""
    replay = Replay((), frozenset(), 9, "p-0", "p-9")

    assert (replay.sequence_in("a"), replay.sequence_in("b")) == (9, 9)


def test_a_log_for_each_channel_reaches_its_own_place() -> None:
    """Where each channel has its own log, a page reaches an sequence of its own in each."""
    places = {"a": Place(5, "a-5"), "b": Place(8, "b-8")}
    replay = Replay((), frozenset(), 8, "m-0", "m-9", places=places)

    assert (replay.sequence_in("a"), replay.sequence_in("b")) == (5, 8)


def test_channels_are_remembered_for_thirty_ages() -> None:
    """A channel is remembered thirty times as long as its events."""
    assert Retention(age_s=10).forget_s == 300


def test_the_default_retention_is_a_day() -> None:
    """Unless it is configured, a thousand events of a day are kept."""
    assert Retention() == Retention(length=1000, age_s=86_400)
