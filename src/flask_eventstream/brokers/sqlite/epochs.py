"""The epochs of a SQLite log: what makes a loss provable.

A log that went back would give out its sequence numbers a second time. A killed process loses
nothing; a power cut may lose the last moments, and who puts a copy in the file's place loses what
came after it. So an epoch is bound to the boot of the machine and to the file's inode, and a
position of an epoch that ended counts up to where it ended in the file.

Who can't see which boot this is keeps the epoch that is there. It proves nothing, but it would
prove no more by a new one, and of two containers on one volume each would end the other's.
"""

from __future__ import annotations

import functools
import secrets
import sqlite3
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Epoch", "begin_epoch", "boot_id", "current_epoch", "is_current"]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Epoch:
    """The epoch that a log is in."""

    name: str
    began_ms: int
    began_after: int
    """The last sequence of the epoch before it; 0 where it is the first."""


def current_epoch(db: sqlite3.Connection) -> Epoch | None:
    """The epoch of the log; ``None`` in a log that was just made. Inside a transaction."""
    row = db.execute(
        "SELECT epoch, began_ms, (SELECT max(last) FROM sse_epochs) FROM sse_epochs"
        " WHERE last IS NULL"
    ).fetchone()
    return Epoch(row[0], row[1], row[2] or 0) if row else None


def is_current(db: sqlite3.Connection, inode: int) -> bool:
    """True where the log's epoch may go on, in this boot and this file. Inside a transaction."""
    row = db.execute("SELECT boot, inode FROM sse_epochs WHERE last IS NULL").fetchone()
    return row is not None and row[1] == inode and boot_id() in ("", row[0])


def begin_epoch(db: sqlite3.Connection, inode: int, *, head: int, now_ms: int) -> None:
    """End the log's epoch at ``head``, and begin another. Inside a transaction that writes."""
    epoch = secrets.token_hex(4)
    db.execute("UPDATE sse_epochs SET last = ? WHERE last IS NULL", (head,))
    db.execute(
        "INSERT INTO sse_epochs (epoch, boot, inode, began_ms) VALUES (?, ?, ?, ?)",
        (epoch, boot_id(), inode, now_ms),
    )
    db.execute("UPDATE sse_log SET epoch = ?", (epoch,))


@functools.cache
def boot_id() -> str:
    """Names this boot of the machine; empty where this process can't know it. Read once.

    Raises:
        OSError: It can't be read now, for want of a descriptor, say. That says nothing of the boot.
    """
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()
    except (FileNotFoundError, PermissionError):
        return ""  # another system than Linux, or a container that hides it
