"""Writing entries into a SQLite log. Every call is a part of the caller's transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from flask_eventstream.brokers.sqlite.history import JSON, KINDS, History
from flask_eventstream.brokers.sqlite.trimming import Trimming
from flask_eventstream.event import Event
from flask_eventstream.log.entries import Kind

__all__ = ["Appending"]

#: An entry, at a sequence of its own or (NULL) at the next.
_INSERT = """
INSERT INTO sse_events
    (sequence, channel, at_ms, kind, data, type, id, retry, exclude, repeats)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
#: What a channel has after an entry more.
_TOUCH = """
INSERT INTO sse_channels (channel, stored, ended, touched_ms) VALUES (?, 1, ?, ?)
ON CONFLICT (channel) DO UPDATE SET stored = stored + 1, ended = excluded.ended,
    touched_ms = excluded.touched_ms"""


class Appending:
    """The writing side of one connection. Whoever holds the connection may use it."""

    def __init__(self, db: sqlite3.Connection, trimming: Trimming, history: History) -> None:
        self._db = db
        self._trimming = trimming
        self._history = history

    def append(
        self, channel: str, event: Event | None, kind: Kind, *, now_ms: int
    ) -> tuple[int, str]:
        """Append one entry. Returns its sequence, and the epoch of the log."""
        values = _values(event, kind)
        repeats = self._repeats(channel, event)
        row = (None, channel, now_ms, *values, repeats)
        sequence = int(self._db.execute(_INSERT, row).lastrowid or 0)
        stored, epoch = self._touch(channel, sequence if kind is Kind.END else 0, now_ms)
        self._trimming.appended(channel, sequence, stored)
        return sequence, epoch

    def append_to(self, channels: Sequence[str], event: Event, first: int, *, now_ms: int) -> None:
        """Append an event to several channels, at the sequences from ``first`` on."""
        values = _values(event, Kind.EVENT)
        rows = (
            (sequence, channel, now_ms, *values, self._repeats(channel, event))
            for sequence, channel in enumerate(channels, first)
        )
        self._db.executemany(_INSERT, rows)
        self._db.executemany(_TOUCH, [(channel, 0, now_ms) for channel in channels])
        self._trimming.appended_to(channels, first)

    def _repeats(self, channel: str, event: Event | None) -> int:
        own_id = event.id if event is not None else None
        return 1 if own_id and self._history.places(own_id, [channel]) else 0

    def _touch(self, channel: str, ended: int, now_ms: int) -> tuple[int, str]:
        self._db.execute(_TOUCH, (channel, ended, now_ms))
        stored, epoch = self._db.execute(
            "SELECT stored, (SELECT epoch FROM sse_log) FROM sse_channels WHERE channel = ?",
            (channel,),
        ).fetchone()
        return int(stored), epoch


def _values(event: Event | None, kind: Kind) -> tuple[Any, ...]:
    if event is None:
        return (KINDS[kind], None, None, None, None, None)
    number = JSON if event.is_json and kind is Kind.EVENT else KINDS[kind]
    return (number, event.data, event.type, event.id, event.retry, event.exclude)
