"""What a log in Redis answers: states and pages. Answers in, values out; no connection."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask_eventstream.brokers.redis.message import Unreadable, decode_message
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.log.entries import (
    PAGE,
    Entry,
    Missed,
    Replay,
    Retention,
    Standing,
    take_page,
    up_to_date,
)
from flask_eventstream.log.position import Position

__all__ = [
    "ChannelState",
    "LogState",
    "RunInfo",
    "make_entry",
    "make_replay",
    "make_standing",
    "opening_arguments",
]

#: Streams with XTRIM MINID came with 6.2.
_OLDEST_VERSION = (6, 2)
#: Before it, SCRIPT LOAD went to the append-only file and to replicas (release notes of 7.0).
_FORGETS_SCRIPTS = (7, 0)


@dataclass(frozen=True, slots=True)
class RunInfo:
    """One run of a server process."""

    run_id: str
    lossless: bool
    """True where an acknowledged write survives when the process is killed: it has an append-only
    file. With ``appendfsync always`` that is exact; with ``everysec`` a write may wait up to two
    seconds while the disk is busy, and a SIGKILL just then loses it without a trace."""
    keeps_scripts: bool = False
    """True where the next run, or a replica in its place, may know the scripts of this one."""

    @classmethod
    def from_info(cls, info: Mapping[str, Any], shown: str) -> RunInfo:
        """Read what ``INFO`` says.

        Raises:
            BrokerUnavailable: The server is too old, or not ready.
        """
        version = str(info["redis_version"])
        numbers = tuple(int(part) for part in version.split(".")[:2])
        if numbers < _OLDEST_VERSION:
            why = f"the server is Redis {version}, too old for streams that can be trimmed"
            raise BrokerUnavailable(shown, why, "use Redis 6.2 or newer, or Valkey")
        if int(info.get("loading", 0)):
            # Until it has read its append-only file it says that it has none (aof.c), and would
            # get an epoch that ends all positions for nothing.
            raise BrokerUnavailable(shown, "it is still loading its file", "try again in a moment")
        lossless = bool(int(info.get("aof_enabled", 0)))
        return cls(str(info["run_id"]), lossless, keeps_scripts=numbers < _FORGETS_SCRIPTS)


def opening_arguments(
    run: RunInfo, *, epoch: str, retention: Retention | None, is_cluster: bool
) -> list[str]:
    """The arguments of the opening script. ``epoch`` is used if a new one begins."""
    asked = ["", ""] if retention is None else _retention_arguments(retention)
    default = _retention_arguments(Retention())
    return [run.run_id, epoch, str(int(run.lossless)), *asked, *default, str(int(is_cluster))]


def _retention_arguments(retention: Retention) -> list[str]:
    return [str(retention.length), str(int(retention.age_s * 1000))]


@dataclass(frozen=True, slots=True)
class LogState:
    """The log's hash, at one moment."""

    epoch: str
    sequence: int
    past: Mapping[str, int]
    """Earlier epochs, and the last sequence of each."""
    age_ms: int

    FIELDS = ("epoch", "seq", "past", "age")

    @classmethod
    def parse(cls, values: Sequence[bytes | None]) -> LogState | None:
        """The state in an answer to ``HMGET log FIELDS``; ``None`` where there is no log."""
        if values[0] is None:
            return None
        epoch, seq, past, age = (value.decode() if value else "" for value in values)
        ended = dict(one.split(":") for one in past.split())
        return cls(epoch, int(seq), {name: int(last) for name, last in ended.items()}, int(age))

    def sequence_of(self, position: Position) -> int | None:
        """The sequence of a position, or ``None`` where it means nothing in this log."""
        last = self.sequence if position.epoch == self.epoch else self.past.get(position.epoch, -1)
        return position.sequence if position.sequence <= last else None

    def position(self, sequence: int) -> Position:
        """A position of the current epoch."""
        return Position(self.epoch, sequence)


@dataclass(frozen=True, slots=True)
class ChannelState:
    """A channel's hash."""

    last: int
    trimmed: int
    ended: int

    FIELDS = ("last", "trimmed", "ended")

    @classmethod
    def parse(cls, values: Sequence[bytes | None]) -> ChannelState:
        """The state in an answer to ``HMGET channel FIELDS``; all 0 where nothing is known."""
        return cls(*(int(value or 0) for value in values))


@dataclass(frozen=True, slots=True)
class ChannelPage:
    """The answers about one channel."""

    channel: str
    state: ChannelState
    rows: Sequence[tuple[bytes, Mapping[bytes, bytes]]]
    """``XRANGE`` after the start; at most one more than a page."""


def make_entry(channel: str, body: bytes, position: Position) -> Entry | None:
    """The entry of a message body in the log, or ``None`` where somebody else wrote it there."""
    try:
        message = decode_message(b'{"id":"%s", %s' % (str(position).encode(), body))
    except Unreadable:
        return None
    if message.position is None:
        return None
    return message.entry(channel, position.sequence)


def make_standing(
    state: LogState | None, channels: Mapping[str, ChannelState], after: str | None
) -> Standing:
    """How a reader at ``after`` stands to the log."""
    if state is None:
        return Missed()
    latest = {name: channel.last for name, channel in channels.items()}
    if after is not None:
        position = Position.parse(after)
        start = state.sequence_of(position) if position is not None else None
        if start is None or start < max(latest.values()):
            return Missed()
    position_now = str(state.position(state.sequence))
    ended = frozenset(name for name, channel in channels.items() if channel.ended)
    return up_to_date(latest, Replay.nothing(state.sequence, position_now, ended=ended))


def make_replay(
    state: LogState, starts: Mapping[str, int], pages: Sequence[ChannelPage], *, now_ms: int
) -> Replay:
    """One page of several channels: merged in the order of the log, with what is gone."""
    gone: set[str] = set()
    rows: list[tuple[int, str, bytes]] = []
    more = False
    reached = state.sequence
    for page in pages:
        start = starts[page.channel]
        expired = _count_expired(page.rows, oldest_ms=now_ms - state.age_ms)
        for row_id, fields in page.rows[expired:]:
            rows.append((int(row_id.partition(b"-")[0]), page.channel, fields.get(b"m", b"")))
        if start < page.state.trimmed or expired or (start < page.state.last and not page.rows):
            gone.add(page.channel)
        if len(page.rows) > PAGE:
            # What lies behind this channel's page was not read, so the common page ends before.
            more = True
            reached = min(reached, int(page.rows[PAGE - 1][0].partition(b"-")[0]))
    rows = sorted(row for row in rows if row[0] <= reached)
    rows, is_cut = take_page(rows, lambda row: len(row[2]))
    if is_cut:
        more, reached = True, rows[-1][0]
    entries = [make_entry(channel, body, state.position(seq)) for seq, channel, body in rows]
    return Replay(
        entries=[entry for entry in entries if entry is not None],
        gone=frozenset(gone),
        sequence=reached,
        start=str(state.position(rows[0][0] - 1 if rows else reached)),
        position=str(state.position(reached)),
        more=more,
        ended=frozenset(page.channel for page in pages if page.state.ended),
    )


def _count_expired(rows: Sequence[tuple[bytes, Mapping[bytes, bytes]]], *, oldest_ms: int) -> int:
    # What lies behind an event that may be given is given too, however old a clock that was set
    # back makes it look: a gap in the middle would be none that a reset could name.
    for count, (_, fields) in enumerate(rows):
        if int(fields.get(b"a", 0)) >= oldest_ms:
            return count
    return len(rows)
