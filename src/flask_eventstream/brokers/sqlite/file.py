"""A SQLite file that several processes share: connection, transactions, and errors made plain.

A `SqliteFile` is one connection, for one thread at a time. It knows nothing of events.

The file is for the user who made it alone (0600), whatever the umask, and SQLite gives what it lays
beside it the same rights. A file that is there already keeps its own: an administrator may have
made it for a group. No link is followed to it, or whoever may write into the folder could make us
write elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from flask_eventstream.errors import BrokerUnavailable

__all__ = ["OLDEST", "SqliteFile", "is_too_old"]

#: UPSERT came with it (sqlite.org/lang_upsert.html). Nothing that we say is younger.
OLDEST = (3, 24, 0)

_Result = TypeVar("_Result")

_MODE = 0o600

#: Milliseconds by which the time for a lock may be off: to set it costs as much as a small read.
_NEAR_MS = 20

#: Text that may be anything. What is not UTF-8 becomes lone surrogates, which no event can have.
_to_text = partial(str, encoding="utf-8", errors="surrogateescape")


def is_too_old() -> bool:
    """True where this Python came with a SQLite that can't do what we ask."""
    return sqlite3.sqlite_version_info < OLDEST


class SqliteFile:
    """One connection to a file, which is made if it is missing.

    Args:
        path: The file. Its folder must exist.
        busy_s: How long a call waits for other programs' locks, all in all.

    Raises:
        BrokerUnavailable: From every method; names the file and what to do.
    """

    def __init__(self, path: Path, *, busy_s: float) -> None:
        self.path = path
        self._busy_s = busy_s
        self._busy_ms = 0
        self.wait_until(time.monotonic() + busy_s)
        with self._translating():
            _make(path)
            self._db = sqlite3.connect(
                path, timeout=0, isolation_level=None, check_same_thread=False
            )
            try:
                self._allow_waiting()
                self._switch_to_wal()
                self._db.execute("PRAGMA synchronous = NORMAL")
                self._db.execute("PRAGMA journal_size_limit = 16777216")
                self._identity = _identity(path)
                self._prepare()
                self.wait_until(time.monotonic() + busy_s)
                self._allow_waiting()
            except BaseException:
                self._db.close()
                raise

    def _prepare(self) -> None:
        """Make what the file must have; where it is there, this must write nothing."""

    def _switch_to_wal(self) -> None:
        # Where two connections make the file at once SQLite fails one of them, whatever its
        # timeout: each has a lock that the other waits for. So wait for the other, and try again.
        while self._db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() >= self._until_s:
                    raise
                with self._writing():
                    continue

    def __del__(self) -> None:
        # An application that nobody uses any more has nobody to close its broker. From Python 3.13
        # on, a connection that is dropped unclosed is a ResourceWarning.
        if hasattr(self, "_db"):
            self._db.close()

    def close(self) -> None:
        """Close the connection."""
        self._db.close()

    def wait_until(self, until_s: float) -> None:
        """From now on wait for other programs' locks until this moment of `time.monotonic`."""
        self._until_s = until_s

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
        self._allow_waiting()
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

    def _allow_waiting(self) -> None:
        left_ms = max(0, int((self._until_s - time.monotonic()) * 1000))
        if abs(left_ms - self._busy_ms) > _NEAR_MS or (left_ms == 0) != (self._busy_ms == 0):
            self._db.execute(f"PRAGMA busy_timeout = {left_ms}")
            self._busy_ms = left_ms

    def _tolerating(self, read: Callable[[], _Result]) -> _Result:
        """What ``read`` returns, also where some text is no UTF-8.

        One bad row fails the statement that reads it among others. From the first on the
        connection takes any text, which costs a fifth more per row.
        """
        try:
            with self._translating():
                return read()
        except BrokerUnavailable as error:
            if "decode" not in str(error.__cause__):
                raise
        self._db.text_factory = _to_text
        with self._translating():
            return read()

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
                # What is left of the time that was given, to the hundredth.
                busy_s = round(self._busy_s, 2)
                details = {"busy_s": busy_s, "folder": self.path.parent, "path": self.path}
                return why.format(**details), remedy.format(**details)
        if isinstance(error, OSError):
            return f"{error.strerror} ({error.filename})", "look at what this process may open"
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
        "no such column",
        "another version of Flask-EventStream made the file",
        "move it away; a new one is made with the next event",
    ),
    (
        "symbolic link",
        "{path} is a symbolic link, which is not followed",
        "name the file itself in SSE_BROKER_URL, or remove the link",
    ),
    (
        "unable to open",
        "the file can't be opened or made",
        "create {folder} and let this user write there, or change SSE_BROKER_URL",
    ),
    ("readonly", "the file can't be written", "let this user write the file and {folder}"),
    ("disk I/O error", "the disk failed, or the file was taken away", "look at {folder}"),
)


def _make(path: Path) -> None:
    """Make the file if it is missing, for this user alone; refuse links.

    Never open one that may be there: to close a descriptor of a file takes this process's locks on
    it away, those of all its connections (sqlite.org/howtocorrupt.html, 2.2).
    """
    if not path.exists():
        with contextlib.suppress(OSError):  # SQLite says why it can't be made
            _create(path)
    for name in (path, f"{path}-wal", f"{path}-shm"):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            if stat.S_ISLNK(os.lstat(name).st_mode):
                raise OSError(None, "symbolic link", str(name))


def _create(path: Path) -> None:
    try:
        os.mknod(path, _MODE | stat.S_IFREG)  # opens nothing, follows nothing
    except FileExistsError:
        return
    except (AttributeError, OSError):  # Windows; macOS leaves it to root, some disks can't
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, _MODE))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.lstat(path)  # half of what Path.lstat takes, fifty times a second
    except OSError:
        return None  # gone, or out of reach: opening it again says why
    return status.st_dev, status.st_ino
