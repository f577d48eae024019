"""The SQLite broker: any number of processes on one machine, and no server to start.

Publishing appends to the file, in the calling thread. Reading has a thread of its own in each
process that has readers: it alone waits for the disk, so that the hub's loop never does. It looks
for news when a publisher of its own process says so, and now and then for those of others
(reader.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from flask_eventstream.brokers.broker import Inbox
from flask_eventstream.brokers.sqlite.listener import SqliteListener
from flask_eventstream.brokers.sqlite.log import LogFile
from flask_eventstream.brokers.sqlite.records import recall, remember
from flask_eventstream.brokers.sqlite.shared import SharedLog
from flask_eventstream.brokers.sqlite.shares import share, shares, unshare
from flask_eventstream.event import Event
from flask_eventstream.log.entries import Entry, Retention, Standing
from flask_eventstream.process import around_fork

__all__ = ["SqliteBroker"]

_Result = TypeVar("_Result")

#: Seconds for which the reading side waits for a lock. Readers of a WAL file need none, but for
#: the moment in which a log left by a crash is recovered.
_READ_BUSY_S = 1.0

#: Seconds for which a process waits to say what it has: it says it again soon.
_SHARE_S = 1.0


class SqliteBroker:
    """A log in a SQLite file. Threads, forks and other processes may share it."""

    is_shared = True

    def __init__(self, path: Path, *, retention: Retention | None, timeout_s: float) -> None:
        self.path = path.absolute()
        self._retention = retention
        self._timeout_s = timeout_s
        self._writing = SharedLog(self._open_in, shown=self.url)
        self._reading = SharedLog(self._open_in, shown=self.url)
        self._listeners: set[SqliteListener] = set()
        # What could not be closed before a fork stays here in the child: unused, and open.
        self._inherited: list[object] = []
        around_fork(before=self._let_go, in_parent=self._go_on, in_child=self._begin_anew)

    @property
    def url(self) -> str:
        """Where the log is."""
        return f"sqlite:///{self.path}"

    def publish(self, channel: str, event: Event) -> str:
        """Append and wake. Any thread; waits for locks, all in all ``timeout_s`` at the most."""
        return self._write(lambda log: log.append(channel, [event]))[0]

    def publish_many(self, channel: str, events: Sequence[Event]) -> list[str]:
        """Append all of them in one transaction, or none."""
        return self._write(lambda log: log.append(channel, events))

    def publish_to(self, channels: Sequence[str], event: Event) -> list[str]:
        """Append it to all of them in one transaction, or to none."""
        return self._write(lambda log: log.append_to(channels, event))

    def end(self, channel: str) -> None:
        """Append the channel's end."""
        self._write(lambda log: log.end(channel))

    def arrive(self, channels: Sequence[str], after: str | None) -> Standing:
        """How a reader at ``after`` stands to the log. Any thread; a read or two.

        Waits for no writer: it has a connection of its own, and readers of a WAL file need no
        lock. Only where the file is made at this moment it waits, for a second at the most.
        """
        return self._reading.use(lambda log: log.arrive(channels, after), within_s=_READ_BUSY_S)

    def control(self, text: str) -> str:
        """Append a control entry."""
        return self._write(lambda log: log.control(text))

    def newest(self, channel: str, count: int) -> Sequence[Entry]:
        """The last entries of a channel. Waits for no writer."""
        return self._reading.use(lambda log: log.newest(channel, count), within_s=_READ_BUSY_S)

    def remember(self, name: str, text: str, *, for_s: float) -> None:
        """Keep a text."""
        self._write(lambda log: log.write_beside(remember, name, text, for_s=for_s))

    def recall(self, name: str) -> str | None:
        """The text of this name. Waits for no writer."""
        return self._reading.use(lambda log: log.read_beside(recall, name), within_s=_READ_BUSY_S)

    def share(
        self, owner: str, changed: Mapping[str, str], *, for_s: float, whole: bool = False
    ) -> bool:
        """Take what an owner says, in one transaction."""
        return self._writing.use(
            lambda log: log.write_beside(share, owner, changed, for_s=for_s, whole=whole),
            within_s=_SHARE_S,
        )

    def unshare(self, owner: str) -> None:
        """Take it away."""
        self._writing.use(lambda log: log.write_beside(unshare, owner), within_s=_SHARE_S)

    def shares(self, channel: str) -> Sequence[str]:
        """What all owners say of a channel. Waits for no writer."""
        return self._reading.use(
            lambda log: log.read_beside(shares, channel), within_s=_READ_BUSY_S
        )

    def listen(self, loop: asyncio.AbstractEventLoop, inbox: Inbox) -> SqliteListener:
        """Begin to listen. Call on ``loop``."""
        open_log = partial(self.open_log, busy_s=_READ_BUSY_S)
        listener = SqliteListener(open_log, loop, inbox, ended=self._listeners.discard)
        self._listeners.add(listener)
        return listener

    def close(self) -> None:
        """Close the connections; the next publish opens another."""
        self._writing.close()
        self._reading.close()

    def open_log(self, *, busy_s: float) -> LogFile:
        """A connection of the caller's own."""
        return LogFile(self.path, retention=self._retention, busy_s=busy_s)

    def _open_in(self, seconds: float) -> LogFile:
        return self.open_log(busy_s=seconds)

    def _write(self, write: Callable[[LogFile], _Result]) -> _Result:
        def write_there(log: LogFile) -> tuple[_Result, bool]:
            return write(log), log.replaced

        until_s = time.monotonic() + self._timeout_s
        result, replaced = self._writing.use(write_there, within_s=self._timeout_s)
        if replaced:
            # What was just written went into a file that nobody will open again.
            left_s = max(0.0, until_s - time.monotonic())
            result, _ = self._writing.use(write_there, within_s=left_s)
        for listener in tuple(self._listeners):
            listener.wake()
        return result

    def _let_go(self) -> None:
        self._writing.let_go(within_s=self._timeout_s)
        self._reading.let_go(within_s=_READ_BUSY_S)
        for listener in tuple(self._listeners):
            listener.let_go()

    def _go_on(self) -> None:
        for listener in tuple(self._listeners):
            listener.go_on()
        self._reading.go_on()
        self._writing.go_on()

    def _begin_anew(self) -> None:
        logs = (self._writing.begin_anew(), self._reading.begin_anew())
        self._inherited += [*logs, *self._listeners]
        self._listeners = set()
