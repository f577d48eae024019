"""What a log in Redis answers: states. Answers in, values out; no connection."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.log.entries import Missed, Replay, Retention, Standing, up_to_date
from flask_eventstream.log.position import Position

__all__ = [
    "ChannelState",
    "LogState",
    "RunInfo",
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

    def state_of(self, log: LogState | None) -> LogState:
        """What counts of a log that nobody may have opened in this run.

        Who publishes opens it. Until then, where the run before may have lost something, no
        position of its epoch counts. Readers are given positions of an epoch that ends with the
        next publish.
        """
        unopened = self.run_id[:8]  # as random as any epoch
        if log is None:
            return LogState(unopened, 0, {}, 0, self.run_id)
        if log.run == self.run_id or self.lossless:
            return log
        return dataclasses.replace(log, epoch=unopened, past={}, began=log.sequence)

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

    run: str = ""
    """The run of the server in which the epoch began."""
    began: int = 0
    """The sequence after which the epoch began."""

    FIELDS = ("epoch", "seq", "past", "age", "run", "began")

    @classmethod
    def parse(cls, values: Sequence[bytes | None]) -> LogState | None:
        """The state in an answer to ``HMGET log FIELDS``; ``None`` where there is no log."""
        if values[0] is None:
            return None
        epoch, seq, past, age, run, began = (value.decode() if value else "" for value in values)
        ended = dict(one.split(":") for one in past.split())
        past_ends = {name: int(last) for name, last in ended.items()}
        return cls(epoch, int(seq), past_ends, int(age), run, int(began or 0))

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
