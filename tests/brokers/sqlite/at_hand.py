"""What the tests of the SQLite broker have at hand."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from brokers.hearing import Ear
from brokers.stores import Clock
from flask_eventstream.brokers.sqlite.broker import SqliteBroker
from flask_eventstream.brokers.sqlite.log import LogFile
from flask_eventstream.event import Event

__all__ = [
    "BAD_ROWS",
    "INSERT",
    "Listen",
    "Open",
    "data",
    "epoch_of",
    "exit_code",
    "in_child",
    "is_intact",
    "listeners_are_none",
    "locked",
    "modes",
    "numbered",
    "opened",
    "publish",
    "remove",
    "stored",
    "threads",
    "written_by_another",
]


Open = Callable[..., LogFile]


def publish(log: LogFile, channel: str, *texts: str) -> list[str]:
    return [position for text in texts for position in log.append(channel, [Event(text)])]


def numbered(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def stored(path: Path, channel: str = "a") -> list[str]:
    """What lies in the file, whatever readers may get of it."""
    with sqlite3.connect(path) as db:
        rows = db.execute("SELECT data FROM sse_events WHERE channel = ?", (channel,)).fetchall()
    db.close()
    return [text for (text,) in rows]


def data(entries: Any) -> list[str]:
    return [entry.event.data for entry in entries if entry.event]


Listen = Callable[..., Ear]


def remove(path: Path) -> None:
    """Deletes the file as an administrator would, with what SQLite laid beside it."""
    for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        name.unlink(missing_ok=True)


def is_intact(path: Path) -> bool:
    db = sqlite3.connect(path)
    (verdict,) = db.execute("PRAGMA integrity_check").fetchone()
    db.close()
    return bool(verdict == "ok")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    yield
    other.close()


def in_child(task: Callable[[], object]) -> int:
    """Forks, runs `task` in the child and gives the child's process id; a child never returns."""
    child = os.fork()
    if child == 0:
        try:
            task()
        except BaseException as error:  # noqa: BLE001  a child must not go on with the test
            os.write(2, repr(error).encode())
            os._exit(1)
        os._exit(0)
    return child


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def threads() -> int:
    """Threads of this process, also those that `threading` knows nothing of."""
    return len(list(Path("/proc/self/task").iterdir()))


def listeners_are_none(broker: SqliteBroker) -> None:
    assert broker._listeners == set()


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[LogFile]:
    log = LogFile(path, **{"retention": None, "busy_s": 5, "clock": Clock(), **options})
    try:
        yield log
    finally:
        log.close()


@contextmanager
def written_by_another(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program's connection, in the midst of writing; what it wrote is committed."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
    finally:
        db.execute("COMMIT")
        db.close()


def epoch_of(position: str) -> str:
    return position.rpartition("-")[0]


BAD_ROWS = {
    "no UTF-8": "('a', 0, CAST(x'ff' AS TEXT), NULL, NULL, NULL, 0)",
    "bytes": "('a', 0, x'00ff', NULL, NULL, NULL, 0)",
    "two lines": "('a', 0, 'x', 'two' || char(10) || 'lines', NULL, NULL, 0)",
    "an id like a position": "('a', 0, 'x', NULL, '00000000-9', NULL, 0)",
    "no number": "('a', 0, 'x', NULL, NULL, 'soon', 0)",
    "no kind": "('a', 0, 'x', NULL, NULL, NULL, 9)",
    "a negative kind": "('a', 0, 'x', NULL, NULL, NULL, -1)",
    "no data": "('a', 0, NULL, NULL, NULL, NULL, 0)",
    "a bytes channel": "(x'ff', 0, 'x', NULL, NULL, NULL, 0)",
    "a channel that is no UTF-8": "(CAST(x'ff' AS TEXT), 0, 'x', NULL, NULL, NULL, 0)",
}


INSERT = "INSERT INTO sse_events (channel, at_ms, data, type, id, retry, kind) VALUES "


def modes(path: Path) -> set[int]:
    files = [path, Path(f"{path}-wal"), Path(f"{path}-shm")]
    return {stat.S_IMODE(file.stat().st_mode) for file in files}
