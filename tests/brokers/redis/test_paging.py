"""What a page of logs means, without Redis; and the script that reads one, with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_eventstream.brokers.redis.answers import ChannelState, LogState
from flask_eventstream.brokers.redis.message import Unreadable
from flask_eventstream.brokers.redis.paging import (
    READ_PAGE,
    PageAnswer,
    Row,
    make_entry,
    make_replay,
    page_arguments,
)
from flask_eventstream.brokers.redis.scripts import Keys
from flask_eventstream.log.entries import PAGE, PAGE_SIZE, Replay
from flask_eventstream.log.position import Position
from harness.redis_server import RedisServer, run_redis

EPOCH = "0badcafe"
AGE_MS = 60_000
NOW_MS = 1_000_000
KEYS = Keys("sse:")

SEQUENCES = st.integers(min_value=0, max_value=10**18)


def state(sequence: int = 1000) -> LogState:
    return LogState(EPOCH, sequence, {}, AGE_MS)


def row(sequence: int, channel: str = "a", *, at_ms: int = NOW_MS) -> Row:
    body = f'"data": "{sequence}"}}'.encode()
    return Row(channel, f"{sequence}-0".encode(), body, str(at_ms).encode())


def replay_after(
    start: int,
    *rows: Row,
    channels: dict[str, ChannelState] | None = None,
    more: bool = False,
    skipped: list[str] | None = None,
) -> Replay:
    """The page that these rows are, and the channels ("a" with the last of them)."""
    known = channels or {"a": ChannelState(rows[-1].sequence if rows else 0, 0, 0)}
    has_later = frozenset(row.channel for row in rows)
    answer = PageAnswer(state(), known, has_later, rows, more, NOW_MS)

    def skip(channel: str, error: Unreadable) -> None:
        if skipped is not None:
            skipped.append(f"{channel}: {error.kind}")

    return make_replay(answer, state(), dict.fromkeys(known, start), skipped=skip)


def sequences(replay: Replay) -> list[int]:
    return [entry.sequence for entry in replay.entries]


# ---- what a page means


def test_a_page_says_where_it_starts_and_ends() -> None:
    """`start` lies right before the first entry, `position` where the log stands."""
    replay = replay_after(5, row(7), row(9))

    assert (replay.start, replay.position) == (f"{EPOCH}-6", f"{EPOCH}-1000")


def test_a_page_that_is_not_the_last_ends_with_its_last_entry() -> None:
    """What lies behind was not read."""
    replay = replay_after(5, row(7), row(9), more=True)

    assert (replay.sequence, replay.position, replay.more) == (9, f"{EPOCH}-9", True)


def test_a_page_knows_what_is_ended() -> None:
    """Channels whose end was published and not revoked are named."""
    channels = {"a": ChannelState(7, 0, 7), "b": ChannelState(8, 0, 0)}

    assert replay_after(5, row(7), row(8, "b"), channels=channels).ended == {"a"}


def test_trimmed_events_are_gone() -> None:
    """A reader before the oldest event that was kept is told; one behind it is not."""
    trimmed = {"a": ChannelState(7, 6, 0)}

    assert replay_after(5, row(7), channels=trimmed).gone == {"a"}
    assert replay_after(6, row(7), channels=trimmed).gone == set()


def test_a_channel_without_its_stream_is_gone() -> None:
    """Where the events' key has expired, a reader is told if there was anything after it."""
    empty = {"a": ChannelState(6, 0, 0)}

    assert replay_after(5, channels=empty).gone == {"a"}
    assert replay_after(6, channels=empty).gone == set()


def test_expired_events_are_gone() -> None:
    """An event beyond the age is not given although it is still there, and its reader is told."""
    replay = replay_after(5, row(7, at_ms=NOW_MS - AGE_MS - 1), row(8))

    assert sequences(replay) == [8]
    assert replay.gone == {"a"}


def test_no_gap_in_the_middle() -> None:
    """What looks too old behind an event that is not, because a clock was set back, is given."""
    replay = replay_after(5, row(7), row(8, at_ms=NOW_MS - AGE_MS - 1), row(9))

    assert sequences(replay) == [7, 8, 9]
    assert not replay.gone


@pytest.mark.parametrize(
    "bad",
    [
        Row("a", b"6-0", b"", b"9999999"),
        Row("a", b"6-0", b"no json", b"9999999"),
        Row("a", b"6-0", b'"data": 1}', b"soon"),
        Row("a", b"6-0", b'"data": 1}', b""),
        Row("a", b"6-3", b'"data": 1}', b"9999999"),
        Row("a", b"6-0", b'"data": \xff}', b"9999999"),
    ],
    ids=["no body", "no message", "bad time", "no time", "bad place", "no text"],
)
def test_a_strange_row_is_skipped(bad: Row) -> None:
    """What somebody else wrote into a stream of ours is told of, and ends no replay."""
    skipped: list[str] = []
    channels = dict.fromkeys("ab", ChannelState(9, 0, 0))

    replay = replay_after(5, bad, row(8), row(9, "b"), skipped=skipped, channels=channels)

    assert sequences(replay) == [8, 9]
    assert len(skipped) == 1


@given(SEQUENCES)
def test_an_entry_s_position(sequence: int) -> None:
    """An entry has the position at which it lies, and the event that its body says."""
    position = Position(EPOCH, sequence)

    entry = make_entry("a", b'"data": {"x": 1}, "type": "t"}', position)

    assert (entry.sequence, entry.position) == (sequence, str(position))
    assert entry.frame == f'event: t\ndata: {{"x": 1}}\nid: {position}\n\n'.encode()


# ---- the script


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with run_redis() as server:
        yield server


class Log:
    """A log that a test writes itself, sequence by sequence."""

    def __init__(self, server: RedisServer, rows: Sequence[tuple[int, str, bytes]]) -> None:
        self._client: Any = server.admin
        self._client.flushall()
        head = max((sequence for sequence, _, _ in rows), default=0)
        log = {"epoch": EPOCH, "seq": head, "past": "", "age": AGE_MS, "run": "x"}
        self._client.hset(KEYS.log(""), mapping=log)
        with self._client.pipeline() as pipe:
            for sequence, channel, body in sorted(rows):
                fields = {"m": b'"data": "%s"}' % body, "a": 0}
                pipe.xadd(KEYS.events(channel), fields, id=f"{sequence}-0")
                pipe.hset(KEYS.channel(channel), "last", sequence)
            pipe.execute()

    def page(self, starts: dict[str, int], epoch: str = EPOCH) -> PageAnswer:
        positions = {channel: Position(epoch, start) for channel, start in starts.items()}
        names, arguments = page_arguments(KEYS, positions)
        said = self._client.eval(READ_PAGE, len(names), *names, *arguments)
        return PageAnswer.parse(_as_bytes(said), list(starts))

    def close(self) -> None:
        self._client.close()


def _as_bytes(said: Any) -> Any:
    if isinstance(said, list):
        return [_as_bytes(one) for one in said]
    return said.encode() if isinstance(said, str) else said


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.dictionaries(st.integers(1, 3000), st.sampled_from("abc"), max_size=900),
    st.sampled_from([1, 1000, 50_000]),
    st.fixed_dictionaries({name: st.integers(0, 3000) for name in "abc"}),
)
def test_pages_together_are_the_log(
    server: RedisServer, places: dict[int, str], size: int, starts: dict[str, int]
) -> None:
    """Page after page gives what each channel has after its place, once, in the log's order."""
    if size * len(places) > 10_000_000:
        places = dict(list(places.items())[:100])
    body = b"x" * size
    log = Log(server, [(sequence, channel, body) for sequence, channel in places.items()])
    given_rows: list[tuple[int, str]] = []
    left, more = dict(starts), True
    while more:
        page = log.page(left)
        given_rows += [(row.sequence, row.channel) for row in page.rows]
        sizes = [len(row.body) for row in page.rows]
        assert len(sizes) <= PAGE
        assert sum(sizes[:-1]) <= PAGE_SIZE
        more = page.more
        reached = page.rows[-1].sequence if page.rows else 0
        left = {name: max(start, reached) for name, start in left.items()}
    log.close()

    assert given_rows == sorted((s, c) for s, c in places.items() if s > starts[c])


def test_a_place_in_an_unknown_epoch_is_given_nothing(server: RedisServer) -> None:
    """What can't be placed costs a look at the log's state, and not a page."""
    log = Log(server, [(number, "a", b"x" * 1000) for number in range(1, 300)])

    unknown, known = log.page({"a": 5}, "deadbeef"), log.page({"a": 5})
    log.close()

    assert (unknown.rows, unknown.more, unknown.channels["a"].last) == ([], False, 299)
    assert len(known.rows) == PAGE


def test_nothing_beyond_the_log_is_given(server: RedisServer) -> None:
    """A row with a sequence that the log has not reached was written by somebody else."""
    log = Log(server, [(5, "a", b"x")])
    server.ask("XADD", KEYS.events("a"), f"{2**62}-0", "m", '"data": 1}', "a", "0")

    page = log.page({"a": 0})
    log.close()

    assert [row.sequence for row in page.rows] == [5]
    assert not page.more
