"""What answers of Redis mean; without Redis."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_eventstream.brokers.redis.answers import (
    PAGE,
    ChannelPage,
    ChannelState,
    LogState,
    RunInfo,
    make_entry,
    make_replay,
    opening_arguments,
)
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.log.entries import Replay, Retention
from flask_eventstream.log.position import Position

EPOCH = "0badcafe"
AGE_MS = 60_000
NOW_MS = 1_000_000

SEQUENCES = st.integers(min_value=0, max_value=10**18)


def state(sequence: int = 1000, past: Mapping[str, int] | None = None) -> LogState:
    return LogState(EPOCH, sequence, past or {}, AGE_MS)


def row(sequence: int, *, at_ms: int = NOW_MS) -> tuple[bytes, dict[bytes, bytes]]:
    body = f'"data": "{sequence}"}}'.encode()
    return f"{sequence}-0".encode(), {b"m": body, b"a": str(at_ms).encode()}


def page(
    *sequences: int, channel: str = "a", last: int | None = None, trimmed: int = 0, ended: int = 0
) -> ChannelPage:
    newest = max(sequences, default=0) if last is None else last
    return ChannelPage(channel, ChannelState(newest, trimmed, ended), [row(s) for s in sequences])


def replay_after(start: int, *pages: ChannelPage, sequence: int = 1000) -> Replay:
    starts = {one.channel: start for one in pages}
    return make_replay(state(sequence), starts, pages, now_ms=NOW_MS)


def sequences(replay: Replay) -> list[int]:
    return [entry.sequence for entry in replay.entries]


# ---- the server


@pytest.mark.parametrize("version", ["6.2.0", "6.2.21", "7.0.15", "8.4.0", "10.0"])
def test_servers_that_are_new_enough(version: str) -> None:
    """Redis 6.2 and whatever is newer is taken."""
    assert RunInfo.from_info({"redis_version": version, "run_id": "x"}, "redis://h").run_id == "x"


@pytest.mark.parametrize("version", ["2.8.0", "5.0.14", "6.0.20"])
def test_a_server_that_is_too_old(version: str) -> None:
    """An older server is refused with its version and the remedy."""
    with pytest.raises(BrokerUnavailable) as caught:
        RunInfo.from_info({"redis_version": version, "run_id": "x"}, "redis://h")

    assert f"the server is Redis {version}, too old" in caught.value.why
    assert caught.value.remedy == "use Redis 6.2 or newer, or Valkey"


def test_a_server_that_is_still_loading() -> None:
    """While a server reads its file it says that it has none, so what it says is not believed."""
    info = {"redis_version": "7.0.0", "run_id": "x", "aof_enabled": 0, "loading": 1}

    with pytest.raises(BrokerUnavailable, match="still loading"):
        RunInfo.from_info(info, "redis://h")


@pytest.mark.parametrize(("aof", "lossless"), [({"aof_enabled": 1}, True), ({}, False)])
def test_what_survives_a_restart(aof: dict[str, int], *, lossless: bool) -> None:
    """A run counts as lossless only where the server has an append-only file."""
    info = {"redis_version": "7.0.0", "run_id": "x", **aof}

    assert RunInfo.from_info(info, "redis://h").lossless is lossless


@pytest.mark.parametrize(("version", "keeps"), [("6.2.16", True), ("7.0.0", False)])
def test_what_scripts_survive(version: str, *, keeps: bool) -> None:
    """Before Redis 7 a script may be known to the next run of a server, or to its replica."""
    info = {"redis_version": version, "run_id": "x"}

    assert RunInfo.from_info(info, "redis://h").keeps_scripts is keeps


def test_arguments_of_the_opening_script() -> None:
    """Without a retention of its own a publisher keeps what the log has, and brings defaults."""
    run = RunInfo("run", lossless=True)

    own = opening_arguments(run, epoch="e", retention=Retention(5, 1.5), is_cluster=False)
    none = opening_arguments(run, epoch="e", retention=None, is_cluster=True)

    assert own == ["run", "e", "1", "5", "1500", "1000", "86400000", "0"]
    assert none == ["run", "e", "1", "", "", "1000", "86400000", "1"]


# ---- states


def test_no_log() -> None:
    """Where the hash is missing there is no state."""
    assert LogState.parse([None, None, None, None]) is None


def test_the_log_s_state() -> None:
    """The hash gives the epoch, where it stands, and where earlier epochs ended."""
    parsed = LogState.parse([b"epoch123", b"42", b"older123:40 oldest12:7", b"60000"])

    assert parsed == LogState("epoch123", 42, {"older123": 40, "oldest12": 7}, 60_000)


def test_nothing_is_known_of_an_unused_channel() -> None:
    """A channel without a hash has no last event, nothing trimmed, and is not ended."""
    assert ChannelState.parse([None, None, None]) == ChannelState(0, 0, 0)


@pytest.mark.parametrize(
    ("position", "sequence"),
    [
        (Position(EPOCH, 0), 0),
        (Position(EPOCH, 1000), 1000),
        (Position(EPOCH, 1001), None),
        (Position("older123", 40), 40),
        (Position("older123", 41), None),
        (Position("unknown1", 1), None),
        (Position("unknown1", 0), None),
    ],
    ids=str,
)
def test_what_a_position_means(position: Position, sequence: int | None) -> None:
    """Positions count up to where their epoch ended, or the log stands; others mean nothing."""
    assert state(past={"older123": 40}).sequence_of(position) == sequence


# ---- pages


@given(
    st.lists(st.integers(1, 1000), unique=True, max_size=600),
    st.lists(st.integers(1, 1000), unique=True, max_size=600),
    st.integers(0, 1000),
)
def test_pages_together_are_the_log(a: list[int], b: list[int], start: int) -> None:
    """Page after page gives every later event of both channels, once, in the order of the log."""
    logs = {"a": sorted(a), "b": sorted(set(b) - set(a))}
    given, reached, more = [], start, True
    while more:
        pages = [
            page(
                *[s for s in log if s > reached][: PAGE + 1],
                channel=channel,
                last=max(log, default=0),
            )
            for channel, log in logs.items()
        ]
        replay = replay_after(reached, *pages)
        assert len(replay.entries) <= PAGE
        assert not replay.gone
        given += sequences(replay)
        reached, more = replay.sequence, replay.more

    assert given == sorted(s for log in logs.values() for s in log if s > start)
    assert reached == 1000


def test_a_page_says_where_it_starts_and_ends() -> None:
    """`start` lies right before the first entry, `position` where the log stands."""
    replay = replay_after(5, page(7, 9))

    assert (replay.start, replay.position) == (f"{EPOCH}-6", f"{EPOCH}-1000")


def test_a_page_knows_what_is_ended() -> None:
    """Channels whose end was published and not revoked are named."""
    replay = replay_after(5, page(7, channel="a", ended=7), page(8, channel="b"))

    assert replay.ended == {"a"}


def test_trimmed_events_are_gone() -> None:
    """A reader before the oldest event that was kept is told; one behind it is not."""
    assert replay_after(5, page(7, trimmed=6)).gone == {"a"}
    assert replay_after(6, page(7, trimmed=6)).gone == set()


def test_a_channel_without_its_stream_is_gone() -> None:
    """Where the events' key has expired, a reader is told if there was anything after it."""
    assert replay_after(5, page(last=6)).gone == {"a"}
    assert replay_after(6, page(last=6)).gone == set()


def test_expired_events_are_gone() -> None:
    """An event beyond the age is not given although it is still there, and its reader is told."""
    old = ChannelPage("a", ChannelState(8, 0, 0), [row(7, at_ms=NOW_MS - AGE_MS - 1), row(8)])

    replay = replay_after(5, old)

    assert sequences(replay) == [8]
    assert replay.gone == {"a"}


def test_no_gap_in_the_middle() -> None:
    """What looks too old behind an event that is not, because a clock was set back, is given."""
    rows = [row(7), row(8, at_ms=NOW_MS - AGE_MS - 1), row(9)]

    replay = replay_after(5, ChannelPage("a", ChannelState(9, 0, 0), rows))

    assert sequences(replay) == [7, 8, 9]
    assert not replay.gone


def test_strange_entries_are_skipped() -> None:
    """What somebody else wrote into a stream of ours ends no replay."""
    rows = [(b"6-0", {b"x": b"y"}), (b"7-0", {b"m": b"no json", b"a": b"9999999"}), row(8)]

    replay = replay_after(5, ChannelPage("a", ChannelState(8, 0, 0), rows))

    assert sequences(replay) == [8]


@given(SEQUENCES)
def test_an_entry_s_position(sequence: int) -> None:
    """An entry has the position at which it lies, and the event that its body says."""
    position = Position(EPOCH, sequence)

    entry = make_entry("a", b'"data": {"x": 1}, "type": "t"}', position)

    assert entry is not None
    assert (entry.sequence, entry.position) == (sequence, str(position))
    assert entry.frame == f'event: t\ndata: {{"x": 1}}\nid: {position}\n\n'.encode()
