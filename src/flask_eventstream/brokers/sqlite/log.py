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

import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from flask_eventstream.brokers.sqlite.appending import Appending
from flask_eventstream.brokers.sqlite.epochs import (
    Epoch,
    begin_epoch,
    current_epoch,
    is_current,
)
from flask_eventstream.brokers.sqlite.file import SqliteFile
from flask_eventstream.brokers.sqlite.history import ROW, History, make_entries, size_of_row
from flask_eventstream.brokers.sqlite.tables import SCHEMA
from flask_eventstream.brokers.sqlite.trimming import Trimming
from flask_eventstream.event import Event
from flask_eventstream.log.entries import (
    CONTROL_CHANNEL,
    PAGE,
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

_Result = TypeVar("_Result")

#: Entries of one look for news.
_NEWS = 1000

#: How many of the tables are there that came last, some in each version of them.
_TABLES = """
SELECT count(*) FROM sqlite_master
WHERE name IN ('sse_log', 'sse_epochs', 'sse_records', 'sse_owners', 'sse_shares')"""
#: Where the log stands: the last sequence that was given out, the last in the table, the epoch.
#: The second is the first, unless somebody else wrote there: no position may be ahead of the log.
_STANDS = """
SELECT (SELECT seq FROM sqlite_sequence WHERE name = 'sse_events'),
    (SELECT max(sequence) FROM sse_events), epoch FROM sse_log"""
#: And of a channel: its last sequence, and its end.
_ARRIVE = """
SELECT (SELECT seq FROM sqlite_sequence WHERE name = 'sse_events'),
    (SELECT max(sequence) FROM sse_events), epoch,
    (SELECT max(sequence) FROM sse_events WHERE channel = ?1),
    (SELECT ended FROM sse_channels WHERE channel = ?1) FROM sse_log"""


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
        self._asked = retention
        self._epoch = Epoch("", 0, 0)
        self.skipped: list[str] = []
        """Why rows were passed over that no event stream can carry, since this was last emptied."""
        super().__init__(path, busy_s=busy_s)

    def _prepare(self) -> None:
        with self._reading():
            ready = self._is_ready()
        if not ready:
            with self._writing():
                self._set_up()

    def _is_ready(self) -> bool:
        """True where everything is there already: to open a log waits for no writer."""
        if self._db.execute(_TABLES).fetchone()[0] != 5:  # noqa: PLR2004  all
            return False
        self._trimming = Trimming(self._db, self._clock)
        self._history = History(self._db, self._trimming)
        self._appending = Appending(self._db, self._trimming, self._history)
        if not self._trimming.agrees(self._asked) or not is_current(self._db, self.inode):
            return False
        self._stand()
        return True

    def _set_up(self) -> None:
        for statement in SCHEMA.split(";\n"):
            self._db.execute(statement)
        self._trimming = Trimming(self._db, self._clock)
        self._history = History(self._db, self._trimming)
        self._appending = Appending(self._db, self._trimming, self._history)
        self._trimming.agree(self._asked)
        if not is_current(self._db, self.inode):  # another process may have been first
            begin_epoch(self._db, self.inode, head=_last(self._db), now_ms=self._now_ms())
        self._trimming.forget_channels()
        self._stand()

    @property
    def epoch(self) -> str:
        """The epoch of the positions that this connection gives."""
        return self._epoch.name

    @property
    def began(self) -> Epoch:
        """How the epoch began."""
        return self._epoch

    @property
    def head(self) -> int:
        """The greatest sequence that was ever given out; 0 in a new log."""
        with self._translating():
            return self._stand()

    def knows(self, position: Position) -> bool:
        """True where every event after this position is in the log, or is known to be gone."""
        with self._translating(), self._reading():
            return self._sequence_at(position) is not None

    def append(self, channel: str, events: Sequence[Event]) -> list[str]:
        """Append events, all or none. Returns their ids."""
        with self._translating(), self._writing():
            sequences = [self._append(channel, event, Kind.EVENT) for event in events]
        return [
            event.id or self._position(sequence)
            for event, sequence in zip(events, sequences, strict=True)
        ]

    def append_to(self, channels: Sequence[str], event: Event) -> list[str]:
        """Append one event to each of these channels, all or none. Returns its ids."""
        with self._translating(), self._writing():
            # Named here, because many rows of one statement tell no sequence but the last one's.
            first = self._stand() + 1
            self._appending.append_to(channels, event, first, now_ms=self._now_ms())
        after = range(first, first + len(channels))
        return [event.id or self._position(sequence) for sequence in after]

    def end(self, channel: str) -> None:
        """Append the channel's end."""
        with self._translating(), self._writing():
            self._append(channel, None, Kind.END)

    def control(self, text: str) -> str:
        """Append a control entry. Returns its position."""
        with self._translating(), self._writing():
            sequence = self._append(CONTROL_CHANNEL, Event(text), Kind.CONTROL)
        return self._position(sequence)

    def newest(self, channel: str, count: int) -> Sequence[Entry]:
        """The last entries of a channel that may be read, oldest first; at most a page."""
        return self._tolerating(lambda: self._newest(channel, min(count, PAGE)))

    def write_beside(self, write: Callable[..., _Result], *what: Any, **how: Any) -> _Result:
        """Write what lies beside the log, in one transaction: records.py, shares.py."""
        with self._translating(), self._writing():
            return write(self._db, self._now_ms(), *what, **how)

    def read_beside(self, read: Callable[..., _Result], *what: Any) -> _Result:
        """Read what lies there."""
        with self._translating():
            return read(self._db, self._now_ms(), *what)

    def arrive(self, channels: Sequence[str], after: str | None) -> Standing:
        """How a reader at ``after`` stands to the log."""
        # One statement is a moment by itself.
        is_one = after is None and len(channels) == 1
        with self._translating(), nullcontext() if is_one else self._reading():
            rows = {name: self._db.execute(_ARRIVE, (name,)).fetchone() for name in channels}
            head = self._note(next(iter(rows.values())))
            latest = {name: int(row[3] or 0) for name, row in rows.items()}
            if after is not None:
                start = self._sequence_of(channels, after)
                if start is None or start < max(latest.values()):
                    return Missed()
                if any(self._history.lacks(name, start) for name in channels):
                    return Missed()
        ended = frozenset(name for name, row in rows.items() if row[4])
        return up_to_date(latest, Replay.nothing(head, self._position(head), ended=ended))

    def read(self, channels: Sequence[str], after: str | None) -> Replay:
        """One page of the log of these channels after a last event ID."""
        return self._tolerating(lambda: self._read(channels, after))

    def news(self, channels: Collection[str], since: int) -> News:
        """Everything that was appended to these channels after the sequence ``since``."""
        return self._tolerating(lambda: self._news(channels, since))

    # ---- statements; the first two are transactions, the others inside one

    def _read(self, channels: Sequence[str], after: str | None) -> Replay:
        with self._reading():
            head = self._stand()
            ended = frozenset(self._history.ends(channels))
            start = head if after is None else self._sequence_of(channels, after)
            if start == head:
                return Replay.nothing(head, self._position(head), ended=ended)
            if start is None:  # nobody knows what this reader has: it is given what there is
                start, gone = 0, frozenset(channels)
            else:
                gone = frozenset(name for name in channels if self._history.lacks(name, start))
            rows, more = self._history.page(channels, start)
        page = list(self._made(rows))
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

    def _newest(self, channel: str, count: int) -> Sequence[Entry]:
        with self._reading():
            self._stand()
            rows = self._history.newest(channel, count)
        return list(self._made(rows))

    def _news(self, channels: Collection[str], since: int) -> News:
        with self._reading():
            with closing(
                self._db.execute(ROW + " WHERE sequence > ? ORDER BY sequence", (since,))
            ) as found:
                rows, more = take_page(found, size_of_row, most=_NEWS)
            stands = self._stand()
            head = rows[-1][0] if more else stands
            # Sequences have no holes but those that trimming made.
            trimmed = (
                self._db.execute(
                    "SELECT channel FROM sse_channels WHERE trimmed > ?", (since,)
                ).fetchall()
                if head - since > len(rows)
                else []
            )
        entries = list(self._made(row for row in rows if row[1] in channels))
        gone = frozenset(name for (name,) in trimmed if name in channels)
        return News(entries, gone, head, more)

    def _stand(self) -> int:
        """The greatest sequence that was given out. Takes the epoch that goes on, too."""
        return self._note(self._db.execute(_STANDS).fetchone())

    def _note(self, row: Any) -> int:
        if row[2] != self._epoch.name:
            # Another process had a reason to begin it. What ours gave out is good up to its end.
            self._epoch = current_epoch(self._db) or self._epoch
        return max(int(row[0] or 0), int(row[1] or 0))

    def _append(self, channel: str, event: Event | None, kind: Kind) -> int:
        sequence, epoch = self._appending.append(channel, event, kind, now_ms=self._now_ms())
        if epoch != self._epoch.name:
            self._stand()
        return sequence

    def _sequence_of(self, channels: Collection[str], after: str) -> int | None:
        """Where a last event ID stands in the log, or None where nobody can tell."""
        position = Position.parse(after)
        if position is not None:
            return self._sequence_at(position)
        places = self._history.places(after, channels)
        # An id that stands there twice, or stood there before, may be either of its events.
        return places[0][0] if len(places) == 1 and not places[0][1] else None

    def _sequence_at(self, position: Position) -> int | None:
        row = self._db.execute(
            "SELECT last FROM sse_epochs WHERE epoch = ?", (position.epoch,)
        ).fetchone()
        if row is None:
            return None
        last = self._stand() if row[0] is None else row[0]
        return position.sequence if position.sequence <= last else None

    def _made(self, rows: Iterable[Any]) -> Iterator[Entry]:
        return make_entries(rows, self._epoch.name, self.skipped)

    def _position(self, sequence: int) -> str:
        return f"{self._epoch.name}-{sequence}"

    def _now_ms(self) -> int:
        return int(self._clock() * 1000)


def _last(db: sqlite3.Connection) -> int:
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'sse_events'")
    return int((row.fetchone() or (0,))[0])
