"""What a SQLite file remembers beside its log: texts, by name and for a time."""

from __future__ import annotations

import sqlite3

__all__ = ["recall", "remember"]

#: Records that are forgotten with each new one: the table shrinks faster than it grows, and nobody
#: pays for a big clean-up.
_FORGET = 16


def remember(db: sqlite3.Connection, now_ms: int, name: str, text: str, *, for_s: float) -> None:
    """Keep a text in place of what had its name. Inside a transaction of the caller's."""
    db.execute(
        "DELETE FROM sse_records WHERE name IN"
        " (SELECT name FROM sse_records WHERE until_ms <= ? ORDER BY until_ms LIMIT ?)",
        (now_ms, _FORGET),
    )
    db.execute(
        "INSERT OR REPLACE INTO sse_records (name, text, until_ms) VALUES (?, ?, ?)",
        (name, text, now_ms + int(for_s * 1000)),
    )


def recall(db: sqlite3.Connection, now_ms: int, name: str) -> str | None:
    """The text of this name, if its time is not over."""
    statement = "SELECT text FROM sse_records WHERE name = ? AND until_ms > ?"
    row = db.execute(statement, (name, now_ms)).fetchone()
    return None if row is None else str(row[0])
