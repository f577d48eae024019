"""One reader's way to live, step by step. test_catchup.py walks it at random."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_eventstream.event import Event
from flask_eventstream.hub import splice as splice_module
from flask_eventstream.hub.splice import Splice
from flask_eventstream.log.entries import Entry, Place, Replay


@pytest.fixture(autouse=True, scope="module")
def small_hold() -> object:
    """A hold of four entries."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splice_module, "_MAX_HELD", 4)
        yield


def entry(sequence: int, channel: str = "a") -> Entry:
    return Entry(channel, sequence, f"p-{sequence}", Event("x"))


def page(reached: int, *, more: bool = False) -> Replay:
    return Replay((), frozenset(), reached, "p-0", f"p-{reached}", more=more)


def held(reader: Splice) -> list[int]:
    return [entry.sequence for entry in reader.release()]


def hold(reader: Splice, sequences: Sequence[int]) -> None:
    for sequence in sequences:
        reader.hold(entry(sequence))


def test_it_begins_where_the_client_was() -> None:
    """The first page is read after the client's own position, or from now on."""
    assert Splice("p-5").after == "p-5"
    assert Splice(None).after is None


def test_it_is_not_caught_up_before_a_page() -> None:
    """Without a page of the log nobody knows what is missing."""
    assert not Splice(None).caught_up


def test_the_last_page_makes_it_caught_up() -> None:
    """After a page without another, the log has nothing more to give."""
    reader = Splice(None)
    reader.reading()
    reader.replayed(page(5))

    assert reader.caught_up
    assert reader.after == "p-5"


def test_another_page_is_read_where_the_last_ended() -> None:
    """While there is more, the next page is read after the one before."""
    reader = Splice("p-1")
    reader.reading()
    reader.replayed(page(5, more=True))

    assert not reader.caught_up
    assert reader.after == "p-5"


def test_what_the_log_gave_is_dropped() -> None:
    """A held entry that a page had is not given again; the one after it is."""
    reader = Splice(None)
    reader.reading()
    hold(reader, [4, 5, 6, 7])
    reader.replayed(page(5))

    assert held(reader) == [6, 7]


def test_entries_are_released_once() -> None:
    """What was released is not released again."""
    reader = Splice(None)
    reader.reading()
    reader.replayed(page(5))
    hold(reader, [6])

    assert (held(reader), held(reader)) == ([6], [])


def test_the_hold_survives_page_after_page() -> None:
    """Entries held while many pages were read are released after the last."""
    reader = Splice(None)
    for reached in (1, 2, 3):
        reader.reading()
        hold(reader, [10 + reached])
        reader.replayed(page(reached, more=reached < 3))

    assert held(reader) == [11, 12, 13]


def test_an_interrupt_asks_for_another_page() -> None:
    """When live entries were lost while a page was read, the log is read again from there."""
    reader = Splice(None)
    reader.reading()
    hold(reader, [6])
    reader.interrupt()
    reader.replayed(page(5))

    assert not reader.caught_up
    assert reader.after == "p-5"


def test_a_page_after_the_interrupt_makes_up_for_it() -> None:
    """A page that was begun after the interrupt has what was lost."""
    reader = Splice(None)
    reader.interrupt()
    reader.reading()
    hold(reader, [8])
    reader.replayed(page(7))

    assert reader.caught_up
    assert held(reader) == [8]


def test_an_interrupt_after_the_last_page_counts() -> None:
    """Until it is released a reader that had caught up can fall behind again."""
    reader = Splice(None)
    reader.reading()
    reader.replayed(page(5))
    reader.interrupt()

    assert not reader.caught_up
    reader.reading()
    reader.replayed(page(9))
    assert reader.caught_up


def test_a_full_hold_is_read_from_the_log() -> None:
    """More live entries than may be held are forgotten, and the log is read again."""
    reader = Splice(None)
    reader.reading()
    reader.replayed(page(5))
    hold(reader, [6, 7, 8, 9])
    assert reader.caught_up

    hold(reader, [10])
    assert not reader.caught_up
    reader.reading()
    reader.replayed(page(10))
    assert held(reader) == []


def test_the_hold_is_used_again_after_it_was_full() -> None:
    """Entries after an overflow are held like any others."""
    reader = Splice(None)
    hold(reader, [1, 2, 3, 4, 5])
    reader.reading()
    hold(reader, [6, 7])
    reader.replayed(page(6))

    assert reader.caught_up
    assert held(reader) == [7]


def test_each_channel_is_dropped_by_its_own_reach() -> None:
    """Where each channel has a log of its own, a page's reach in one says nothing of another."""
    reader = Splice(None)
    reader.reading()
    for each in (entry(4, "a"), entry(4, "b"), entry(6, "a"), entry(6, "b")):
        reader.hold(each)
    places = {"a": Place(5, "p-5"), "b": Place(3, "p-3")}
    reader.replayed(Replay((), frozenset(), 5, "m", "m", places=places))

    assert [(e.channel, e.sequence) for e in reader.release()] == [("b", 4), ("a", 6), ("b", 6)]


def test_the_hold_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries that are too large together are forgotten, however few, and read from the log."""
    monkeypatch.setattr(splice_module, "_MAX_HELD_BYTES", 3 * len(entry(1).frame))
    reader = Splice(None)
    reader.reading()
    hold(reader, [1, 2, 3])
    reader.replayed(page(0))

    assert reader.caught_up

    hold(reader, [4])

    assert not reader.caught_up

    reader.reading()
    hold(reader, [5])
    reader.replayed(page(4))

    assert held(reader) == [5]


@given(st.integers(0, 20), st.integers(0, 20))
def test_pages_and_hold_join_without_a_seam(reached: int, held_from: int) -> None:
    """However the log's page and the live entries overlap, together they have each once."""
    reader = Splice(None)
    reader.reading()
    first = min(held_from, reached) + 1
    live = list(range(first, first + 4))
    hold(reader, live)
    reader.replayed(page(reached))

    assert [sequence for sequence in live if sequence > reached] == held(reader)
