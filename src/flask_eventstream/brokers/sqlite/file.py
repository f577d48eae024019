"""A SQLite file that several processes share: connection, transactions, and errors made plain.

A `SqliteFile` is one connection, for one thread at a time. It knows nothing of events.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flask_eventstream.errors import BrokerUnavailable

__all__ = ["SqliteFile"]


class SqliteFile:
    """One connection to a file, which is made if it is missing.

    Args:
        path: The file. Its folder must exist.
        schema: Statements, each harmless where it was executed before.
        busy_s: How long a statement waits for another program's lock.

    Raises:
        BrokerUnavailable: From every method; names the file and what to do.
    """

    def __init__(self, path: Path, *, schema: str, busy_s: float) -> None:
        self.path = path
        self._busy_s = busy_s
        with self._translating():
            self._db = sqlite3.connect(
                path, timeout=busy_s, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare(schema)
            except BaseException:
                self._db.close()
                raise

    def _prepare(self, schema: str) -> None:
        self._switch_to_wal()
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA journal_size_limit = 16777216")
        with self._writing():
            for statement in schema.split(";\n"):
                self._db.execute(statement)
        self._identity = _identity(self.path)

    def _switch_to_wal(self) -> None:
        # Where two connections make the file at once SQLite fails one of them, whatever its
        # timeout: each has a lock that the other waits for. So wait for the other, and try again.
        until_s = time.monotonic() + self._busy_s
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() >= until_s:
                    raise
                with self._writing():
                    continue
            return

    def __del__(self) -> None:
        # An application that nobody uses any more has nobody to close its broker. From Python 3.13
        # on, a connection that is dropped unclosed is a ResourceWarning.
        if hasattr(self, "_db"):
            self._db.close()

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    @property
    def inode(self) -> int:
        """Names the file among those of its disk."""
        return self._identity[1] if self._identity else 0

    @property
    def replaced(self) -> bool:
        """True where the path no longer leads to the file that is open: deleted, or another."""
        return _identity(self.path) != self._identity

    @property
    def version(self) -> int:
        """Changes whenever another connection, of any process, wrote. Costs microseconds."""
        # Without `_translating`, which takes longer than the statement: it is asked all the time.
        try:
            return int(self._db.execute("PRAGMA data_version").fetchone()[0])
        except (sqlite3.Error, OSError) as error:
            raise self._unavailable(error) from error

    @contextmanager
    def _writing(self) -> Iterator[None]:
        # IMMEDIATE: a transaction that began as a reader can't become a writer while another
        # process writes; SQLite would fail it at once, whatever the timeout.
        with self._transaction("BEGIN IMMEDIATE"):
            yield

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._transaction("BEGIN"):
            yield

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[None]:
        self._db.execute(begin)
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: Exception) -> BrokerUnavailable:
        return BrokerUnavailable(f"sqlite:///{self.path}", *self._diagnosis(error))

    def _diagnosis(self, error: Exception) -> tuple[str, str]:
        text = str(error)
        for sign, why, remedy in _DIAGNOSES:
            if sign in text:
                return why.format(busy_s=self._busy_s), remedy.format(folder=self.path.parent)
        return text, "the text is SQLite's own"


#: (what SQLite says, what it means here, what to do)
_DIAGNOSES = (
    (
        "locked",
        "another program has held its lock for more than {busy_s:g} s",
        "find who holds it (a backup, an open sqlite3 shell), or raise SSE_PUBLISH_TIMEOUT_S",
    ),
    ("full", "the disk is full", "make room in {folder}"),
    (
        "not a database",
        "the file is no SQLite database, or is damaged",
        "move it away; a new one is made with the next event",
    ),
    (
        "malformed",
        "the file is damaged",
        "move it away; a new one is made with the next event",
    ),
    (
        "unable to open",
        "the file can't be opened or made",
        "create {folder} and let this user write there, or change SSE_BROKER_URL",
    ),
    ("readonly", "the file can't be written", "let this user write the file and {folder}"),
    ("disk I/O error", "the disk failed, or the file was taken away", "look at {folder}"),
)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116  half of what Path.stat takes, fifty times a second
    except OSError:
        return None  # gone, or out of reach: opening it again says why
    return status.st_dev, status.st_ino
