"""What a SQLite log has for a reader: events after a place, within the retention. It only reads."""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

from flask_eventstream.brokers.sqlite.trimming import Trimming
from flask_eventstream.errors import InvalidEvent
from flask_eventstream.event import Event
from flask_eventstream.log.entries import Entry, Kind, take_page

__all__ = ["JSON", "KINDS", "ROW", "History", "make_entries", "size_of_row"]

#: An entry, as a row.
ROW = "SELECT sequence, channel, kind, data, type, id, retry, exclude FROM sse_events"

#: How a kind stands in the table.
KINDS = {Kind.EVENT: 0, Kind.END: 1, Kind.CONTROL: 2}
#: An event whose data was no text: whoever reads it from Python gets the object.
JSON = 3
_END = Kind.END
_KIND_OF = {**{number: kind for kind, number in KINDS.items()}, JSON: Kind.EVENT}


class History:
    """The statements that ask what is there. Each runs inside a transaction of the caller's.

    Args:
        db: The connection.
        trimming: What the retention excludes.
    """

    def __init__(self, db: sqlite3.Connection, trimming: Trimming) -> None:
        self._db = db
        self._trimming = trimming

    def ends(self, channels: Collection[str]) -> dict[str, int]:
        """Of those that are ended, the sequence of the end."""
        statement = "SELECT channel, ended FROM sse_channels WHERE ended AND channel IN "
        rows = self._db.execute(statement + _marks(channels), tuple(channels))
        return dict(rows.fetchall())

    def places(self, own_id: str, channels: Collection[str]) -> list[Any]:
        """Events with an own id: at most two, as (sequence, repeats)."""
        try:
            own_id.encode()
        except UnicodeEncodeError:  # a header may have what no text in the log can
            return []
        statement = "SELECT sequence, repeats FROM sse_events WHERE id = ? AND channel IN "
        return self._db.execute(
            statement + _marks(channels) + " LIMIT 2", (own_id, *channels)
        ).fetchall()

    def lacks(self, channel: str, start: int) -> bool:
        """True where something of the channel after ``start`` is gone, or can't be proven here."""
        row = self._db.execute(
            "SELECT trimmed FROM sse_channels WHERE channel = ?", (channel,)
        ).fetchone()
        if row is None:
            return start < int(self._db.execute("SELECT floor FROM sse_log").fetchone()[0])
        if start < row[0] or start < self._trimming.beyond_length(channel):
            return True
        following = self._db.execute(
            "SELECT CAST(at_ms AS INTEGER) FROM sse_events WHERE channel = ? AND sequence > ?"
            " ORDER BY sequence LIMIT 1",
            (channel, start),
        ).fetchone()
        return following is not None and following[0] < self._trimming.expired_ms()

    def newest(self, channel: str, count: int) -> list[Any]:
        """The last rows of a channel that may be read, oldest first: at most a page's size."""
        # Up to the last of those that are too old before a young one, as a page begins after it.
        oldest = self._db.execute(
            "SELECT min(sequence) FROM sse_events"
            " WHERE channel = ? AND CAST(at_ms AS INTEGER) >= ?",
            (channel, self._trimming.expired_ms()),
        ).fetchone()[0]
        if oldest is None:
            return []
        after = max(oldest - 1, self._trimming.beyond_length(channel))
        return _newest_first(self._db, channel, after, count)[::-1]

    def page(self, channels: Sequence[str], start: int) -> tuple[list[Any], bool]:
        """The rows of a page, in the order of the log, and whether there are more."""
        # From the first young enough on, and not each that is: after a clock was set back, an older
        # event may stand between younger ones, and would be passed over in silence.
        statement = """
            SELECT sequence, channel, kind, data, type, id, retry, exclude FROM sse_events
            WHERE channel = ?1 AND sequence >= (
                SELECT sequence FROM sse_events
                WHERE channel = ?1 AND sequence > ?2 AND CAST(at_ms AS INTEGER) >= ?3
                ORDER BY sequence LIMIT 1
            ) ORDER BY sequence"""
        starts = {name: max(start, self._trimming.beyond_length(name)) for name in channels}
        parts = [
            self._db.execute(statement, (name, after, self._trimming.expired_ms()))
            for name, after in starts.items()
        ]
        try:
            return take_page(heapq.merge(*parts, key=lambda row: row[0]), size_of_row)
        finally:
            for part in parts:
                part.close()


def _newest_first(db: sqlite3.Connection, channel: str, after: int, count: int) -> list[Any]:
    statement = ROW + " WHERE channel = ? AND sequence > ? ORDER BY sequence DESC LIMIT ?"
    with closing(db.execute(statement, (channel, after, count))) as found:
        return take_page(found, size_of_row, most=count)[0]


def make_entries(rows: Iterable[Any], epoch: str, skipped: list[str]) -> Iterator[Entry]:
    """The entries that rows are, less those where somebody else wrote what can't be sent.

    Args:
        rows: As `ROW` gives them.
        epoch: That of their positions.
        skipped: Why a row was passed over is added to these.
    """
    said, event = None, None
    for row in rows:
        sequence, channel, kind = row[:3]
        position = f"{epoch}-{sequence}"
        try:
            of_kind = _KIND_OF[kind]
            if of_kind is _END:
                yield Entry.end(channel, sequence, position)
                continue
            # One event to many channels is so many rows, and checked once.
            if row[2:] != said:
                said, event = row[2:], _event(row)
            yield Entry(channel, sequence, position, event, of_kind)
        except (InvalidEvent, KeyError) as error:
            said = None
            skipped.append(f"row {sequence} of sse_events: {error!s}")


def _event(row: Any) -> Event:
    """The event of a row.

    Raises:
        InvalidEvent: Somebody else wrote it.
    """
    kind, data, *fields = row[2:]
    if data is None:
        raise InvalidEvent("data", data, "is missing")
    return (Event.from_json if kind == JSON else Event)(data, *fields)


def size_of_row(row: Any) -> int:
    """About how many bytes a row is on the wire."""
    return len(row[3]) if isinstance(row[3], (str, bytes)) else 0


def _marks(values: Collection[str]) -> str:
    return "(" + ",".join("?" * len(values)) + ")"
