"""The SQLite broker: any number of processes on one machine, and no server to start.

Publishing appends to the file, in the calling thread. Reading has a thread of its own in each
process that has readers: it alone waits for the disk, so that the hub's loop never does. It looks
for news when a publisher of its own process says so, and now and then for those of others
(reader.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from flask_eventstream.brokers.broker import Inbox
from flask_eventstream.brokers.sqlite.log import LogFile
from flask_eventstream.brokers.sqlite.reader import PageRequest, SqliteReader
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.event import Event
from flask_eventstream.log.entries import Entry, Replay, Retention, Standing, UpToDate
from flask_eventstream.process import Lock, around_fork, start_os_thread

__all__ = ["SqliteBroker"]

_Result = TypeVar("_Result")

#: Seconds for which the reading side waits for a lock. Readers of a WAL file need none, but for
#: the moment in which a log left by a crash is recovered.
_READ_BUSY_S = 1.0


class SqliteBroker:
    """A log in a SQLite file. Threads, forks and other processes may share it."""

    is_shared = True

    def __init__(self, path: Path, *, retention: Retention | None, timeout_s: float) -> None:
        self.path = path.absolute()
        self._retention = retention
        self._timeout_s = timeout_s
        self._log: LogFile | None = None
        self._lock = Lock()
        self._listeners: set[SqliteListener] = set()
        # What could not be closed before a fork stays here in the child: unused, and open.
        self._inherited: list[object] = []
        self._lets_go = False
        around_fork(before=self._let_go, in_parent=self._go_on, in_child=self._begin_anew)

    @property
    def url(self) -> str:
        """Where the log is."""
        return f"sqlite:///{self.path}"

    def publish(self, channel: str, event: Event) -> str:
        """Append and wake. Any thread; waits for the disk, at most ``timeout_s`` for a lock."""
        return self._write(lambda log: log.append(channel, [event]))[0]

    def publish_many(self, channel: str, events: Sequence[Event]) -> list[str]:
        """Append all of them in one transaction, or none."""
        return self._write(lambda log: log.append(channel, events))

    def end(self, channel: str) -> None:
        """Append the channel's end."""
        self._write(lambda log: log.end(channel))

    def arrive(self, channels: Sequence[str], after: str | None) -> Standing:
        """How a reader at ``after`` stands to the log. Any thread; a read or two."""
        return self._with_log(lambda log: log.arrive(channels, after), writes=False)

    def listen(self, loop: asyncio.AbstractEventLoop, inbox: Inbox) -> SqliteListener:
        """Begin to listen. Call on ``loop``."""
        listener = SqliteListener(self, loop, inbox)
        self._listeners.add(listener)
        return listener

    def forget(self, listener: SqliteListener) -> None:
        """Wake ``listener`` no more."""
        self._listeners.discard(listener)

    def close(self) -> None:
        """Close the connection; the next publish opens another."""
        with self._lock:
            self._drop()

    def open_log(self, *, busy_s: float) -> LogFile:
        """A connection of the caller's own."""
        return LogFile(self.path, retention=self._retention, busy_s=busy_s)

    def _write(self, write: Callable[[LogFile], _Result]) -> _Result:
        result = self._with_log(write, writes=True)
        for listener in tuple(self._listeners):
            listener.wake()
        return result

    def _with_log(self, use: Callable[[LogFile], _Result], *, writes: bool) -> _Result:
        if not self._lock.acquire(timeout=self._timeout_s):
            why = f"other threads have been waiting for it for more than {self._timeout_s:g} s"
            raise BrokerUnavailable(self.url, why)
        try:
            result = use(log := self._opened())
            if writes and log.replaced:
                # What was just written went into a file that nobody will open again.
                result = use(self._opened())
        except BrokerUnavailable:
            self._drop()
            raise
        finally:
            self._lock.release()
        return result

    def _opened(self) -> LogFile:
        if self._log is not None and self._log.replaced:
            self._drop()
        if self._log is None:
            self._log = self.open_log(busy_s=self._timeout_s)
        return self._log

    def _drop(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    # No connection may be open at a fork (sqlite.org/howtocorrupt.html, 2.6). SQLite in the child
    # would believe in locks that only the parent holds, and share them with every connection that
    # the child opens: the parent's last close then takes the write-ahead log away, and with it
    # what the child publishes.

    def _let_go(self) -> None:
        self._lets_go = self._lock.acquire(timeout=self._timeout_s)
        if self._lets_go:
            self._drop()
        for listener in tuple(self._listeners):
            listener.let_go()

    def _go_on(self) -> None:
        for listener in tuple(self._listeners):
            listener.go_on()
        if self._lets_go:
            self._lock.release()

    def _begin_anew(self) -> None:
        self._inherited += [self._log, *self._listeners]
        self._log = None
        self._lock = Lock()
        self._listeners = set()


class SqliteListener:
    """The reading side. Its methods belong to the loop, all but `wake`."""

    def __init__(self, broker: SqliteBroker, loop: asyncio.AbstractEventLoop, inbox: Inbox) -> None:
        self._broker = broker
        self._loop = loop
        self._answers: set[asyncio.Future[Replay]] = set()
        self._delivered: dict[str, int] = {}
        """For each subscribed channel, a sequence up to which it was delivered, and from which on
        it will be."""
        self._reader = SqliteReader(partial(broker.open_log, busy_s=_READ_BUSY_S), loop, self)
        self._inbox = inbox
        start_os_thread(self._reader.run)

    async def subscribe(self, channels: Collection[str]) -> None:
        """Deliver these channels from now on."""
        # The reading thread never iterates over the set; it asks whether a name is in.
        self._reader.channels.update(channels)
        if not self._reader.began:
            # Before its first look the thread has no place to go on from.
            await self.replay((), None)

    def follow(self, standing: UpToDate) -> bool:
        """Deliver from there on, if the reading thread is between two looks."""
        reader, page = self._reader, standing.page
        reader.channels.update(standing.latest)
        # In this order. A look that began before the channels were in is noticed by the first
        # question, and one that ended meanwhile by its tail.
        between_looks, tail = not reader.looks, reader.tail
        if not between_looks or reader.sent != reader.heard:
            return False
        if not page.position.startswith(f"{reader.epoch}-"):
            return False
        for channel, latest in standing.latest.items():
            delivered = self._delivered.setdefault(channel, tail)
            # An entry between would be missed; one that is not delivered yet would come twice.
            if delivered > page.sequence or latest > max(delivered, tail):
                return False
        return True

    def unsubscribe(self, channels: Collection[str]) -> None:
        """Deliver these channels no more."""
        self._reader.channels.difference_update(channels)
        for channel in channels:
            self._delivered.pop(channel, None)

    async def replay(self, channels: Sequence[str], after: str | None) -> Replay:
        """Read a page of the log; waits while the file can't be read."""
        answer: asyncio.Future[Replay] = self._loop.create_future()
        self._answers.add(answer)
        try:
            self._reader.mailbox.put(PageRequest(channels, after, answer))
            replay = await answer
        finally:
            self._answers.discard(answer)
        for channel in channels:
            if channel in self._reader.channels:
                self._delivered.setdefault(channel, replay.sequence)
        return replay

    def stop(self) -> None:
        """End the reading thread, and cancel what waits for it."""
        self._broker.forget(self)
        self._reader.stopped = True
        self._reader.mailbox.put(None)
        for answer in tuple(self._answers):
            answer.cancel()

    def deliver(self, entries: Sequence[Entry]) -> None:
        """What the reading thread found. On the loop."""
        for entry in entries:
            if entry.channel in self._delivered:
                self._delivered[entry.channel] = entry.sequence
        self._inbox.deliver(entries)

    def interrupted(self, channels: Collection[str] | None, position: str) -> None:
        """What the reading thread found to be gone. On the loop."""
        self._delivered.clear()
        self._inbox.interrupted(channels, position)

    def let_go(self) -> None:
        """Close the connection and open none until `go_on`. Any thread."""
        self._reader.let_go()

    def go_on(self) -> None:
        """The fork is done."""
        self._reader.go_on()

    def wake(self) -> None:
        """Say that there may be news. Any thread; never blocks."""
        self._reader.mailbox.put(None)
