"""What a SQLite log keeps: trimmed now and then, so that no single publish pays for it.

What lies in the file is never younger than ten seconds when it goes, whatever the retention,
because readers in other processes hear of an event by finding it in the file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence

from flask_eventstream.log.entries import Retention

__all__ = ["Trimming"]

#: Milliseconds for which every event stays in the file, whatever the retention: how long the
#: reader of another process may be stopped (a slow disk, a suspended process) and lose nothing.
_LIVE_MS = 10_000

#: Every so many appended events the oldest of the file are looked at, and at most twice as many
#: removed: the file shrinks faster than it grows, and no single publish pays for a big clean-up.
_SWEEP_EVERY = 256
#: Every so many, channels without an event for long are forgotten.
_FORGET_EVERY = 65_536

#: Channels that one statement asks for. An older SQLite takes 999 values (sqlite.org/limits.html).
_ASKED = 500


class Trimming:
    """The statements that remove from a log file. Each runs inside a transaction of the caller's.

    Args:
        db: The connection.
        clock: Seconds since 1970.
    """

    def __init__(self, db: sqlite3.Connection, clock: Callable[[], float]) -> None:
        self._db = db
        self._clock = clock
        self._retention = Retention()

    def agrees(self, asked: Retention | None) -> bool:
        """Take the retention that the file remembers; False where it must be told another.

        Args:
            asked: What the application asks for; ``None``: what the file remembers.
        """
        row = self._db.execute("SELECT length, age_s FROM sse_log").fetchone()
        if row is None:
            return False
        self._retention = Retention(*row)
        return asked in (None, self._retention)

    def agree(self, asked: Retention | None) -> None:
        """Make the file remember what the application asks for."""
        if self.agrees(asked):
            return
        self._retention = asked or self._retention
        self._db.execute(
            "INSERT INTO sse_log (one, length, age_s) VALUES (1, ?, ?) ON CONFLICT (one)"
            " DO UPDATE SET length = excluded.length, age_s = excluded.age_s",
            (self._retention.length, self._retention.age_s),
        )

    def appended(self, channel: str, sequence: int, stored: int) -> None:
        """Trim where it is time, after a channel's ``stored``-th event."""
        if stored > self._enough:
            self._trim(channel)
        self._tidy(sequence, sequence)

    def appended_to(self, channels: Sequence[str], first: int) -> None:
        """The same after one event to each of several channels, the first at ``first``."""
        for start in range(0, len(channels), _ASKED):
            asked = channels[start : start + _ASKED]
            marks = ",".join("?" * len(asked))
            full = self._db.execute(
                f"SELECT channel FROM sse_channels WHERE channel IN ({marks}) AND stored > ?",  # noqa: S608  marks
                (*asked, self._enough),
            ).fetchall()
            for (channel,) in full:
                self._trim(channel)
        self._tidy(first, first + len(channels) - 1)

    @property
    def _enough(self) -> int:
        """Trimmed when a quarter more than needed lies there: cheap on average."""
        return self._retention.length + self._retention.length // 4 + 64

    def _tidy(self, first: int, last: int) -> None:
        for _ in range((first - 1) // _SWEEP_EVERY, last // _SWEEP_EVERY):
            self._sweep()
        if (first - 1) // _FORGET_EVERY < last // _FORGET_EVERY:
            self.forget_channels()

    def forget_channels(self) -> None:
        """Forget channels of which nothing is left, and that were silent for long."""
        before_ms = int(self._clock() * 1000) - int(self._retention.forget_s * 1000)
        forgotten = (
            " FROM sse_channels WHERE touched_ms < ? AND NOT EXISTS"
            " (SELECT 1 FROM sse_events WHERE sse_events.channel = sse_channels.channel)"
        )
        (trimmed,) = self._db.execute("SELECT max(trimmed)" + forgotten, (before_ms,)).fetchone()
        if trimmed is not None:
            self._db.execute("DELETE" + forgotten, (before_ms,))
            self._db.execute("UPDATE sse_log SET floor = max(floor, ?)", (trimmed,))

    def beyond_length(self, channel: str) -> int:
        """The newest sequence that the history's length excludes; 0 where all of it fits."""
        row = self._db.execute(
            "SELECT sequence FROM sse_events WHERE channel = ?"
            " ORDER BY sequence DESC LIMIT 1 OFFSET ?",
            (channel, self._retention.length),
        ).fetchone()
        return int(row[0]) if row else 0

    def expired_ms(self) -> int:
        """Milliseconds since 1970 before which an event is too old to be read."""
        return int(self._clock() * 1000) - int(self._retention.age_s * 1000)

    def _trim(self, channel: str) -> None:
        excess = self.beyond_length(channel)
        last = self._db.execute(
            "SELECT max(sequence) FROM sse_events"
            " WHERE channel = ? AND sequence <= ? AND CAST(at_ms AS INTEGER) < ?",
            (channel, excess, int(self._clock() * 1000) - _LIVE_MS),
        ).fetchone()[0]
        if last is not None:
            self._remove(channel, last)
        else:
            # All of it is too young to go: look again only when as much has come once more.
            self._db.execute("UPDATE sse_channels SET stored = 0 WHERE channel = ?", (channel,))

    def _remove(self, channel: str, last: int) -> None:
        self._db.execute(
            "DELETE FROM sse_events WHERE channel = ? AND sequence <= ?", (channel, last)
        )
        self._db.execute(
            "UPDATE sse_channels SET trimmed = max(trimmed, ?), stored ="
            " (SELECT count(*) FROM sse_events WHERE channel = ?) WHERE channel = ?",
            (last, channel, channel),
        )

    def _sweep(self) -> None:
        oldest = self._db.execute(
            "SELECT channel, sequence, CAST(at_ms AS INTEGER) FROM sse_events"
            " ORDER BY sequence LIMIT ?",
            (2 * _SWEEP_EVERY,),
        ).fetchall()
        before_ms = int(self._clock() * 1000) - max(_LIVE_MS, int(self._retention.age_s * 1000))
        expired = {channel: last for channel, last, at_ms in oldest if at_ms < before_ms}
        for channel, last in expired.items():
            self._remove(channel, last)
