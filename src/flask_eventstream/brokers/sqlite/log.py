"""The log in a SQLite file: its tables, and every statement that touches them.

Why SQLite: a Flask app on one machine needs no server to start, all its processes share one log,
and the log outlives them. The file is in WAL mode, so readers and the writer never wait for each
other, and ``synchronous`` is NORMAL: a killed process loses nothing, a power cut may lose the last
moments. What a power cut took is not passed over in silence: each boot of the machine opens a new
*epoch*, and positions of an older epoch count only as far as the file still has them.

What a reader may get is bounded exactly, at each read, by `Retention`; what lies in the file is
another matter (see trimming.py).

Nothing here knows of loops or threads.
"""

from __future__ import annotations

import heapq
import secrets
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask_eventstream.brokers.sqlite.file import SqliteFile
from flask_eventstream.brokers.sqlite.trimming import Trimming
from flask_eventstream.errors import InvalidEvent
from flask_eventstream.event import Event
from flask_eventstream.log.entries import (
    Entry,
    Kind,
    Missed,
    Replay,
    Retention,
    Standing,
    take_page,
    up_to_date,
)
from flask_eventstream.log.position import Position

__all__ = ["LogFile", "News"]

#: Entries of one look for news.
_NEWS = 1000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS sse_events (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,  -- over all channels, never used twice
    channel TEXT NOT NULL,
    at_ms INTEGER NOT NULL,
    data TEXT,                                   -- NULL: the channel ended here
    type TEXT, id TEXT, retry INTEGER
);
CREATE INDEX IF NOT EXISTS sse_events_of_channel ON sse_events (channel, sequence);
CREATE INDEX IF NOT EXISTS sse_events_by_id ON sse_events (id) WHERE id IS NOT NULL;
CREATE TABLE IF NOT EXISTS sse_channels (
    channel TEXT PRIMARY KEY,
    stored INTEGER NOT NULL,                     -- events in the file, roughly
    trimmed INTEGER NOT NULL DEFAULT 0,          -- greatest sequence that was removed
    ended INTEGER NOT NULL DEFAULT 0,            -- sequence of the end, 0 while it goes on
    touched_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sse_epochs (
    epoch TEXT PRIMARY KEY,
    boot TEXT NOT NULL,
    began_ms INTEGER NOT NULL,
    last INTEGER                                 -- its last sequence; NULL: it goes on
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS sse_log (             -- one row
    one INTEGER PRIMARY KEY CHECK (one = 1),
    floor INTEGER NOT NULL DEFAULT 0,            -- greatest `trimmed` of a forgotten channel
    length INTEGER NOT NULL, age_s REAL NOT NULL -- the retention that the application asked for
);
"""

#: The last sequence of all, the last of a channel, and the channel's end.
_ARRIVE = """
SELECT (SELECT seq FROM sqlite_sequence WHERE name = 'sse_events'),
    (SELECT max(sequence) FROM sse_events WHERE channel = ?1),
    (SELECT ended FROM sse_channels WHERE channel = ?1)"""
_SELECT = "SELECT sequence, channel, data, type, id, retry FROM sse_events"


@dataclass(frozen=True, slots=True)
class News:
    """What is new in a log since the last look."""

    entries: Sequence[Entry]
    gone: frozenset[str]
    """Channels of which something was trimmed before it was seen."""
    head: int
    more: bool


class LogFile(SqliteFile):
    """One connection to a log file. Opening it creates the file and its tables.

    Args:
        path: The file. Its folder must exist.
        retention: What the application asks for; the file remembers it. ``None``: what the file
            remembers, so that a script which only publishes never trims what the app would keep.
        busy_s: How long a statement waits for another program's lock.
        clock: Seconds since 1970.

    Raises:
        BrokerUnavailable: From every method; names the file and what to do.
    """

    def __init__(
        self,
        path: Path,
        *,
        retention: Retention | None,
        busy_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._clock = clock
        super().__init__(path, schema=_SCHEMA, busy_s=busy_s)
        with self._translating(), self._writing():
            self._trimming = Trimming(self._db, retention, clock)
            self.epoch, self.began_ms = self._current_epoch()
            self.began_after = self._last_epochs_end()
            self._trimming.forget_channels()

    @property
    def head(self) -> int:
        """The greatest sequence that was ever given out; 0 in a new log."""
        with self._translating():
            return self._head()

    def append(self, channel: str, events: Sequence[Event]) -> list[str]:
        """Append events, all or none. Returns their ids."""
        with self._translating(), self._writing():
            sequences = [self._append(channel, event, Kind.EVENT) for event in events]
        return [
            event.id or self._position(sequence)
            for event, sequence in zip(events, sequences, strict=True)
        ]

    def end(self, channel: str) -> None:
        """Append the channel's end."""
        with self._translating(), self._writing():
            self._append(channel, None, Kind.END)

    def _append(self, channel: str, event: Event | None, kind: Kind) -> int:
        now_ms = self._now_ms()
        sequence = self._insert(channel, event, now_ms)
        stored = self._touch(channel, sequence if kind is Kind.END else 0, now_ms)
        self._trimming.appended(channel, sequence, stored)
        return sequence

    def arrive(self, channels: Sequence[str], after: str | None) -> Standing:
        """How a reader at ``after`` stands to the log."""
        # One statement is a moment by itself.
        is_one = after is None and len(channels) == 1
        with self._translating(), nullcontext() if is_one else self._reading():
            rows = {name: self._db.execute(_ARRIVE, (name,)).fetchone() for name in channels}
            head = max(int(row[0] or 0) for row in rows.values())
            latest = {name: int(row[1] or 0) for name, row in rows.items()}
            if after is not None:
                start = self._sequence_of(channels, after)
                if start is None or start < max(latest.values()):
                    return Missed()
                if any(self._lacks(name, start) for name in channels):
                    return Missed()
        ended = frozenset(name for name, row in rows.items() if row[2])
        return up_to_date(latest, Replay.nothing(head, self._position(head), ended=ended))

    def read(self, channels: Sequence[str], after: str | None) -> Replay:
        """One page of the log of these channels after a last event ID."""
        with self._translating(), self._reading():
            head = self._head()
            ended = frozenset(self._ends(channels))
            start = head if after is None else self._sequence_of(channels, after)
            if start is None or start == head:
                gone = frozenset(channels if start is None else ())
                return Replay.nothing(head, self._position(head), gone=gone, ended=ended)
            gone = frozenset(name for name in channels if self._lacks(name, start))
            rows, more = self._page(channels, start)
        page = [entry for row in rows if (entry := self._entry(row))]
        reached = rows[-1][0] if more else head
        return Replay(
            entries=page,
            gone=gone,
            sequence=reached,
            start=self._position(rows[0][0] - 1 if rows else head),
            position=self._position(reached),
            more=more,
            ended=ended,
        )

    def news(self, channels: Collection[str], since: int) -> News:
        """Everything that was appended to these channels after the sequence ``since``."""
        with self._translating(), self._reading():
            with closing(
                self._db.execute(_SELECT + " WHERE sequence > ? ORDER BY sequence", (since,))
            ) as found:
                rows, more = take_page(found, _size_of, most=_NEWS)
            head = rows[-1][0] if more else self._head()
            # Sequences have no holes but those that trimming made.
            trimmed = (
                self._db.execute(
                    "SELECT channel FROM sse_channels WHERE trimmed > ?", (since,)
                ).fetchall()
                if head - since > len(rows)
                else []
            )
        entries = [e for row in rows if row[1] in channels and (e := self._entry(row))]
        gone = frozenset(name for (name,) in trimmed if name in channels)
        return News(entries, gone, head, more)

    # ---- statements; inside a transaction

    def _head(self) -> int:
        row = self._db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'sse_events'")
        return int((row.fetchone() or (0,))[0])

    def _insert(self, channel: str, event: Event | None, now_ms: int) -> int:
        values: tuple[Any, ...] = (None, None, None, None)
        if event is not None:
            values = (event.data, event.type, event.id, event.retry)
        cursor = self._db.execute(
            "INSERT INTO sse_events (channel, at_ms, data, type, id, retry)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (channel, now_ms, *values),
        )
        return int(cursor.lastrowid or 0)

    def _touch(self, channel: str, ended: int, now_ms: int) -> int:
        row = self._db.execute(
            "INSERT INTO sse_channels (channel, stored, ended, touched_ms) VALUES (?, 1, ?, ?)"
            " ON CONFLICT (channel) DO UPDATE SET stored = stored + 1, ended = excluded.ended,"
            " touched_ms = excluded.touched_ms RETURNING stored",
            (channel, ended, now_ms),
        ).fetchone()
        return int(row[0])

    def _ends(self, channels: Collection[str]) -> dict[str, int]:
        statement = "SELECT channel, ended FROM sse_channels WHERE ended AND channel IN "
        rows = self._db.execute(statement + _marks(channels), tuple(channels))
        return dict(rows.fetchall())

    def _sequence_of(self, channels: Collection[str], after: str) -> int | None:
        """Where a last event ID stands in the log, or None where nobody can tell."""
        statement = "SELECT max(sequence) FROM sse_events WHERE id = ? AND channel IN "
        own = self._db.execute(statement + _marks(channels), (after, *channels)).fetchone()[0]
        if own is not None:
            return int(own)
        position = Position.parse(after)
        if position is None:
            return None
        epoch = self._db.execute(
            "SELECT last FROM sse_epochs WHERE epoch = ?", (position.epoch,)
        ).fetchone()
        if epoch is None:
            return None
        last = self._head() if epoch[0] is None else epoch[0]
        return position.sequence if position.sequence <= last else None

    def _lacks(self, channel: str, start: int) -> bool:
        """True where something of the channel after ``start`` is gone, or can't be proven here."""
        row = self._db.execute(
            "SELECT trimmed FROM sse_channels WHERE channel = ?", (channel,)
        ).fetchone()
        if row is None:
            return start < int(self._db.execute("SELECT floor FROM sse_log").fetchone()[0])
        if start < row[0] or start < self._trimming.beyond_length(channel):
            return True
        following = self._db.execute(
            "SELECT at_ms FROM sse_events WHERE channel = ? AND sequence > ?"
            " ORDER BY sequence LIMIT 1",
            (channel, start),
        ).fetchone()
        return following is not None and following[0] < self._trimming.expired_ms()

    def _page(self, channels: Sequence[str], start: int) -> tuple[list[Any], bool]:
        # From the first young enough on, and not each that is: after a clock was set back, an older
        # event may stand between younger ones, and would be passed over in silence.
        statement = """
            SELECT sequence, channel, data, type, id, retry FROM sse_events
            WHERE channel = ?1 AND sequence >= (
                SELECT sequence FROM sse_events
                WHERE channel = ?1 AND sequence > ?2 AND at_ms >= ?3 ORDER BY sequence LIMIT 1
            ) ORDER BY sequence"""
        starts = {name: max(start, self._trimming.beyond_length(name)) for name in channels}
        parts = [
            self._db.execute(statement, (name, after, self._trimming.expired_ms()))
            for name, after in starts.items()
        ]
        try:
            return take_page(heapq.merge(*parts, key=lambda row: row[0]), _size_of)
        finally:
            for part in parts:
                part.close()

    def _current_epoch(self) -> tuple[str, int]:
        # The inode too: a copy that was put in the file's place has a past of its own.
        boot = f"{_boot_id()} {self.inode}"
        row = self._db.execute(
            "SELECT epoch, began_ms, boot FROM sse_epochs WHERE last IS NULL"
        ).fetchone()
        if row is not None and row[2] == boot:
            return row[0], row[1]
        self._db.execute("UPDATE sse_epochs SET last = ? WHERE last IS NULL", (self._head(),))
        epoch, began_ms = secrets.token_hex(4), self._now_ms()
        self._db.execute(
            "INSERT INTO sse_epochs (epoch, boot, began_ms) VALUES (?, ?, ?)",
            (epoch, boot, began_ms),
        )
        return epoch, began_ms

    def _last_epochs_end(self) -> int:
        row = self._db.execute("SELECT max(last) FROM sse_epochs").fetchone()
        return int(row[0] or 0)

    def _entry(self, row: Any) -> Entry | None:
        """The entry that a row is, or None where somebody else wrote what can't be sent."""
        sequence, channel, data, type_, id_, retry = row
        try:
            if data is None:
                return Entry.end(channel, sequence, self._position(sequence))
            event = Event(data, type_, id_, retry)
        except InvalidEvent:
            return None
        return Entry(channel, sequence, self._position(sequence), event)

    def _position(self, sequence: int) -> str:
        return str(Position(self.epoch, sequence))

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _size_of(row: Any) -> int:
    return len(row[2] or "")


def _marks(values: Collection[str]) -> str:
    return "(" + ",".join("?" * len(values)) + ")"


def _boot_id() -> str:
    """Names this boot of the machine; empty where the system has no such name."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""
