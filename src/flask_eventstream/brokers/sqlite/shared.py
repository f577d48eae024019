"""A connection to a SQLite log that the threads of a process share, and that no fork inherits."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

from flask_eventstream.brokers.sqlite.log import LogFile
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.process import Lock

__all__ = ["SharedLog"]

_Result = TypeVar("_Result")

#: Seconds for which `SharedLog.close` waits for other threads.
_CLOSE_S = 1.0


class SharedLog:
    """Opened when it is needed, and again when the file was replaced. Any thread.

    No connection may be open at a fork (sqlite.org/howtocorrupt.html, 2.6). SQLite in the child
    would believe in locks that only the parent holds, and share them with every connection that
    the child opens: the parent's last close then takes the write-ahead log away, and with it what
    the child publishes.

    Args:
        open_log: Opens one; takes the seconds for which it may wait for locks.
        shown: The log, for people.
    """

    def __init__(self, open_log: Callable[[float], LogFile], *, shown: str) -> None:
        self._open_log = open_log
        self._shown = shown
        self._lock: Any = Lock()
        self._log: LogFile | None = None
        self._lets_go = False

    def use(self, use: Callable[[LogFile], _Result], *, within_s: float) -> _Result:
        """What ``use`` returns. Waits for threads and locks, all in all ``within_s`` at the most.

        Args:
            use: Called while no other thread uses the connection.
            within_s: Seconds.

        Raises:
            BrokerUnavailable: The log can't be had in this time, or ``use`` raised it.
        """
        until_s = time.monotonic() + within_s
        if not self._lock.acquire(timeout=within_s):
            why = f"other threads have been waiting for it for more than {within_s:g} s"
            raise BrokerUnavailable(self._shown, why)
        try:
            if self._log is not None and self._log.replaced:
                self._drop()
            if self._log is None:
                self._log = self._open_log(max(0.0, until_s - time.monotonic()))
            self._log.wait_until(until_s)
            return use(self._log)
        except BrokerUnavailable:
            self._drop()
            raise
        finally:
            self._lock.release()

    def close(self) -> None:
        """Close the connection; the next use opens another.

        Where another thread has it for a second more, it stays that thread's: the end of a process
        must not wait for a disk.
        """
        if self._lock.acquire(timeout=_CLOSE_S):
            try:
                self._drop()
            finally:
                self._lock.release()

    def let_go(self, *, within_s: float) -> None:
        """Before a fork: close the connection, and open none until `go_on`."""
        self._lets_go = self._lock.acquire(timeout=within_s)
        if self._lets_go:
            self._drop()

    def go_on(self) -> None:
        """After a fork, in the parent."""
        if self._lets_go:
            self._lock.release()

    def begin_anew(self) -> object:
        """After a fork, in the child. Returns what could not be closed: keep it, and never use it.

        To close it would take away locks that the parent has.
        """
        inherited, self._log = self._log, None
        self._lock = Lock()
        return inherited

    def _drop(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None
