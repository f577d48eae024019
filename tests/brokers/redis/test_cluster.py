"""`redis.cluster`: pages of channels that have a log each, as one page of their reader."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from flask_eventstream.brokers.redis.cluster import merge_replays
from flask_eventstream.event import Event
from flask_eventstream.log.entries import Entry, Replay
from flask_eventstream.log.position import Position, decompose

CHANNELS = ("a", "b", "c")


def position(channel: str, sequence: int) -> str:
    return str(Position(f"epoch{channel}000"[:8], sequence))


def page(channel: str, first: int, count: int, *, more: bool = False) -> Replay:
    last = first + count - 1
    return Replay(
        entries=[
            Entry(channel, sequence, position(channel, sequence), Event(f"{channel}{sequence}"))
            for sequence in range(first, first + count)
        ],
        gone=frozenset({channel} if more else ()),
        sequence=last,
        start=position(channel, first - 1),
        position=position(channel, last),
        more=more,
    )


pages = st.fixed_dictionaries(
    {channel: st.builds(page, st.just(channel), st.integers(1, 9), st.integers(0, 4))
     for channel in CHANNELS}
)  # fmt: skip


@given(pages)
def test_each_entry_is_a_place_in_every_log(made: dict[str, Replay]) -> None:
    """Whoever resumes behind any entry of the page has got what stands before it, and no more."""
    merged = merge_replays(made)
    behind = {channel: replay.start for channel, replay in made.items()}

    assert decompose(merged.start, CHANNELS) == behind
    for entry in merged.entries:
        behind[entry.channel] = position(entry.channel, entry.sequence)
        assert decompose(entry.position, CHANNELS) == behind
    assert decompose(merged.position, CHANNELS) == {c: p.position for c, p in made.items()}


@given(pages)
def test_nothing_is_lost_by_merging(made: dict[str, Replay]) -> None:
    """The page has all entries, those of each channel in their order, and how far each reaches."""
    merged = merge_replays(made)

    for channel, replay in made.items():
        assert [e.event for e in merged.entries if e.channel == channel] == [
            e.event for e in replay.entries
        ]
        assert merged.sequence_in(channel) == replay.sequence


def test_what_one_log_says_holds_for_the_page() -> None:
    """One log with more to come, or with a gap, makes the page one that has it."""
    merged = merge_replays({"a": page("a", 1, 1), "b": page("b", 1, 2, more=True)})

    assert merged.more
    assert merged.gone == {"b"}
