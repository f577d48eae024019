"""Where followed channels stand, without Redis."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_eventstream.brokers.redis import following as room
from flask_eventstream.brokers.redis.answers import LogState
from flask_eventstream.brokers.redis.following import Followed, Following, Heard
from flask_eventstream.brokers.redis.message import decode_message
from flask_eventstream.log.entries import Entry
from flask_eventstream.log.position import Position

EPOCH = "0badcafe"
FORGED = 2**62


class Told:
    """A `Following` of some channels whose log stands at 100, and what it delivered."""

    def __init__(self, *channels: str) -> None:
        self.entries: list[Entry] = []
        self.following = Following(self.entries.extend)
        for channel in channels:
            self.following.channels[channel] = Followed()
        self.read(100)

    @property
    def data(self) -> list[str]:
        return [entry.event.data for entry in self.entries if entry.event]

    def read(self, sequence: int, epoch: str = EPOCH) -> None:
        """The log said that it stands here, and everything of the channels was given."""
        state = LogState(epoch, sequence, {}, 1)
        self.following.read(dict.fromkeys(self.following.channels, state.position(sequence)), state)

    def hear(self, sequence: int | None, channel: str = "a", epoch: str = EPOCH) -> bool:
        return self.following.hear(heard(sequence, channel, epoch))

    def settle(self, sequence: int, epoch: str = EPOCH) -> None:
        """The log was asked about what is held."""
        state = LogState(epoch, sequence, {}, 1)
        self.following.release(dict.fromkeys(self.following.doubtful(), state))


def heard(sequence: int | None, channel: str = "a", epoch: str = EPOCH) -> Heard:
    claim = f'"id":"{epoch}-{sequence}", ' if sequence is not None else ""
    raw = f'{{{claim}"data": {json.dumps(str(sequence))}}}'.encode()
    return Heard(channel, decode_message(raw), len(raw))


def test_what_is_live_is_delivered_at_once() -> None:
    """An event right after what is known costs no look at the log."""
    told = Told("a")

    assert [told.hear(101), told.hear(105)] == [True, True]
    assert told.data == ["101", "105"]
    assert told.following.channels["a"].last == Position(EPOCH, 105)


def test_a_forged_position_silences_nobody() -> None:
    """What claims a place that the log has not reached is delivered without a claim."""
    told = Told("a", "b")
    told.hear(FORGED)
    told.hear(101)
    told.hear(102, "b")
    told.settle(102)
    told.hear(103)

    assert told.data == [str(FORGED), "101", "102", "103"]
    assert [entry.position for entry in told.entries][:2] == ["", f"{EPOCH}-101"]
    assert not told.following.holding


def test_a_message_of_another_log_is_not_delivered() -> None:
    """Pub/sub is one for all databases of a server: what is of another log is not for readers."""
    told = Told("a")
    told.hear(7, epoch="deadbeef")
    told.settle(100)
    told.hear(101)

    assert told.data == ["101"]
    assert told.following.channels["a"].last == Position(EPOCH, 101)


def test_a_new_epoch_is_believed_when_the_log_says_so() -> None:
    """The first event of a new epoch is held until the log was asked, and has its position."""
    told = Told("a")

    assert not told.hear(201, epoch="deadbeef")
    told.settle(201, "deadbeef")

    assert [entry.position for entry in told.entries] == ["deadbeef-201"]
    assert told.hear(202, epoch="deadbeef")


def test_a_forged_position_within_reach_is_found_out_by_the_next_event() -> None:
    """A lie that could be true holds up one event, which asks the log, and hides none."""
    told = Told("a")
    assert told.hear(500)
    assert not told.hear(101)
    told.settle(101)
    told.hear(102)

    assert told.data == ["500", "101", "102"]
    assert told.following.channels["a"].last == Position(EPOCH, 102)


def test_what_was_given_comes_no_second_time() -> None:
    """A message that somebody publishes again is no event of its own."""
    told = Told("a")
    told.hear(101)
    told.hear(101)
    told.settle(101)

    assert told.data == ["101"]


def test_a_channel_whose_log_can_t_be_read_is_not_live() -> None:
    """What comes for it may lie behind a gap; what is in no log is delivered."""
    told = Told("a", "b")
    told.following.channels["a"].damaged = True
    told.hear(101)
    told.hear(102, "b")
    told.hear(None)

    assert told.data == ["102", "None"]
    assert told.following.channels["a"].last == Position(EPOCH, 100)


@pytest.mark.parametrize("bound", ["_MAX_HELD", "_MAX_HELD_BYTES"])
def test_the_hold_is_bounded(monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    """More than can be held, by number or by bytes, ends the session."""
    told = Told("a")
    told.following.hold()
    monkeypatch.setattr(room, bound, 3 if bound == "_MAX_HELD" else 3 * heard(101).size)
    for number in range(3):
        told.hear(101 + number)

    with pytest.raises(ConnectionError):
        told.hear(104)


def entries(sequences: Iterable[int], channel: str) -> list[Entry]:
    return [
        decode_message(f'{{"id":"{EPOCH}-{s}", "data": "{s}"}}'.encode()).entry(channel, s)
        for s in sequences
    ]


@given(
    st.lists(st.sampled_from("ab"), min_size=1, max_size=40),
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=8),
    st.data(),
)
def test_each_event_comes_once_whatever_breaks(
    log: Sequence[str], breaks: Sequence[tuple[int, int]], data: st.DataObject
) -> None:
    """Over broken sessions, pages of any length and epochs, each channel gets each event once."""
    told = Told("a", "b")
    channels = told.following.channels
    epochs, published, alive = [EPOCH], 0, 0

    def publish(count: int) -> int:
        return min(published + count, len(log))

    for lost, late in breaks:
        # Live for a while, then deaf, then another session: in a new epoch where data says so.
        for number in range(alive, published := publish(lost)):
            told.hear(101 + number, log[number], epochs[-1])
        published = publish(late)
        if data.draw(st.booleans()):
            epochs.append(f"epoch{len(epochs):03}")
        told.following.hold()
        state = LogState(epochs[-1], 100 + published, {}, 1)
        more = True
        while more:  # what `LogReader.resume` gives
            places = {c: place.sequence for c, place in told.following.places(channels).items()}
            behind = [n for n in range(published) if 101 + n > places[log[n]]]
            length = data.draw(st.integers(1, 5))
            page, more = behind[:length], len(behind) > length
            for number in page:
                told.following.give(entries([101 + number], log[number]))
            reached = 101 + page[-1] if more else state.sequence
            stands = {name: state.position(max(place, reached)) for name, place in places.items()}
            told.following.read(stands, state)
        told.following.release({})
        alive = published

    expected = [str(101 + number) for number in range(published)]
    assert told.data == expected


def test_who_waits_for_what_is_held_waits() -> None:
    """From the first held message on until it is released, nobody counts on what was delivered."""
    told = Told("a")
    released = told.following.released
    seen = [released.is_set()]
    told.hear(FORGED)
    seen.append(released.is_set())
    told.settle(100)
    seen.append(released.is_set())

    assert seen == [True, False, True]
