"""What processes say of channels, in a SQLite file, for as long as they live."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

__all__ = ["share", "shares", "unshare"]


def share(
    db: sqlite3.Connection,
    now_ms: int,
    owner: str,
    changed: Mapping[str, str],
    *,
    for_s: float,
    whole: bool,
) -> bool:
    """Take what an owner says; False where the rest is gone. Inside a transaction."""
    dead = db.execute("SELECT owner FROM sse_owners WHERE until_ms <= ?", (now_ms,)).fetchall()
    for (gone,) in dead:
        unshare(db, now_ms, gone)
    if whole:
        unshare(db, now_ms, owner)
    elif not db.execute("SELECT 1 FROM sse_owners WHERE owner = ?", (owner,)).fetchone():
        return False
    until_ms = now_ms + int(for_s * 1000)
    db.execute(
        "INSERT OR REPLACE INTO sse_owners (owner, until_ms) VALUES (?, ?)", (owner, until_ms)
    )
    db.executemany(
        "INSERT OR REPLACE INTO sse_shares (channel, owner, text) VALUES (?, ?, ?)",
        [(channel, owner, text) for channel, text in changed.items() if text],
    )
    db.executemany(
        "DELETE FROM sse_shares WHERE channel = ? AND owner = ?",
        [(channel, owner) for channel, text in changed.items() if not text],
    )
    return True


def unshare(db: sqlite3.Connection, _now_ms: int, owner: str) -> None:
    """Take away what an owner said. Inside a transaction."""
    db.execute("DELETE FROM sse_shares WHERE owner = ?", (owner,))
    db.execute("DELETE FROM sse_owners WHERE owner = ?", (owner,))


def shares(db: sqlite3.Connection, now_ms: int, channel: str) -> Sequence[str]:
    """What those who live say of a channel."""
    statement = (
        "SELECT text FROM sse_shares JOIN sse_owners USING (owner)"
        " WHERE channel = ? AND until_ms > ?"
    )
    return [str(text) for (text,) in db.execute(statement, (channel, now_ms))]
