"""The SQLite broker: any number of processes on one machine, and no server to start.

Publishing appends to the file, in the calling thread. Reading has a thread of its own in each
process that has readers: it alone waits for the disk, so that the hub's loop never does. It looks
for news when a publisher of its own process says so, and every `_LOOK_S` for those of others; a
look costs one ``stat`` and one ``PRAGMA data_version``.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from _queue import Empty
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from flask_eventstream.brokers.broker import Inbox
from flask_eventstream.brokers.sqlite_log import LogFile
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.event import Event
from flask_eventstream.log import Arrival, Entry, Replay, Retention
from flask_eventstream.native import Lock, Mailbox, around_fork, start_thread
from flask_eventstream.position import Position

__all__ = ["SqliteBroker"]

_LOGGER = logging.getLogger("flask_eventstream")
_Result = TypeVar("_Result")

#: Seconds between two looks for what other processes wrote, and between two after so many that
#: found nothing. Both are below what a person notices. A look at a file that rests takes 10 µs, but
#: 250 µs where the processor's caches are cold, which is when nothing happens: 1.2 % of a core.
_LOOK_S = 0.02
_QUIET_LOOK_S = 0.04
_QUIET_AFTER = 50
#: Seconds between a look that found something and the next: who publishes in a loop is found
#: ten events a look, not one, and shares the interpreter lock with nobody meanwhile.
_BREATH_S = 0.001
#: Seconds between two tries while the file can't be read.
_RETRY_S = 0.25
#: Seconds for which a fork waits for the reading side to be between two looks.
_LET_GO_S = 2.0
#: Seconds for which the reading side waits for a lock. Readers of a WAL file need none, but for
#: the moment in which a log left by a crash is recovered.
_READ_BUSY_S = 1.0


class SqliteBroker:
    """A log in a SQLite file. Threads, forks and other processes may share it."""

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
        return self._append(channel, [event])[0]

    def publish_many(self, channel: str, events: Sequence[Event]) -> list[str]:
        """Append all of them in one transaction, or none."""
        return self._append(channel, events)

    def end(self, channel: str) -> None:
        """Append the channel's end."""
        self._append(channel, [None])

    def arrive(self, channels: Sequence[str], after: str | None) -> Arrival | None:
        """Where the log stands, for a reader who missed nothing. Any thread; a read or two."""
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

    def _append(self, channel: str, events: Sequence[Event | None]) -> list[str]:
        event_ids = self._with_log(lambda log: log.append(channel, events), writes=True)
        for listener in tuple(self._listeners):
            listener.wake()
        return event_ids

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


@dataclass(frozen=True, slots=True)
class _Request:
    """A page that the loop asked the reading thread for."""

    channels: Sequence[str]
    after: str | None
    answer: asyncio.Future[Replay]


class SqliteListener:
    """The reading side. Its methods belong to the loop, all but `wake`."""

    def __init__(self, broker: SqliteBroker, loop: asyncio.AbstractEventLoop, inbox: Inbox) -> None:
        self._broker = broker
        self._loop = loop
        self._answers: set[asyncio.Future[Replay]] = set()
        self._delivered: dict[str, int] = {}
        """For each subscribed channel, a sequence up to which it was delivered, and from which on
        it will be."""
        self._reader = _Reader(broker, loop, self)
        self._inbox = inbox
        start_thread(self._reader.run)

    async def subscribe(self, channels: Collection[str]) -> None:
        """Deliver these channels from now on."""
        # The reading thread never iterates over the set; it asks whether a name is in.
        self._reader.channels.update(channels)
        if not self._reader.began:
            # Before its first look the thread has no place to go on from.
            await self.replay((), None)

    def follow(self, arrival: Arrival) -> bool:
        """Deliver from the arrival on, if the reading thread is between two looks."""
        reader, page = self._reader, arrival.page
        reader.channels.update(arrival.latest)
        # In this order. A look that began before the channels were in is noticed by the first
        # question, and one that ended meanwhile by its tail.
        between_looks, tail = not reader.looks, reader.tail
        if not between_looks or reader.sent != reader.heard:
            return False
        if not page.position.startswith(f"{reader.epoch}-"):
            return False
        for channel, latest in arrival.latest.items():
            delivered = self._delivered.setdefault(channel, tail)
            # An entry between would be missed; one that is not delivered yet would come twice.
            if delivered > page.reached or latest > max(delivered, tail):
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
            self._reader.mailbox.put(_Request(channels, after, answer))
            replay = await answer
        finally:
            self._answers.discard(answer)
        for channel in channels:
            if channel in self._reader.channels:
                self._delivered.setdefault(channel, replay.reached)
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
                self._delivered[entry.channel] = entry.offset
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


class _Reader:
    """The reading thread: its connection, and how far it has read."""

    def __init__(self, broker: SqliteBroker, loop: asyncio.AbstractEventLoop, inbox: Inbox) -> None:
        self.mailbox: Mailbox[_Request | None] = Mailbox()
        """What the loop asks for; ``None`` only wakes."""
        self.channels: set[str] = set()
        self.stopped = False
        self.looks = True
        """False between two looks, when all that was found lies with the loop."""
        self.tail = 0
        """How far the log was read."""
        self.epoch: str | None = None
        self.sent = 0
        """Calls that were given to the loop."""
        self.heard = 0
        """Those of them that it has made; the loop's own."""
        self._broker = broker
        self._loop = loop
        self._inbox = inbox
        self._log: LogFile | None = None
        self._turn = Lock()
        self._breath = Lock()
        self._breath.acquire()  # for ever: waiting for it is a sleep that nobody patched
        self._lets_go = False
        self._version = -1
        self._known_ms = 0
        """When the file was last seen where its name leads."""
        self._quiet_looks = 0
        """Looks since one found something."""
        self._waiting: list[_Request] = []
        self._complained = False

    @property
    def began(self) -> bool:
        """True when everything that is appended from now on will be seen."""
        return self.epoch is not None

    def run(self) -> None:
        """The thread: wait, look, answer; until stopped."""
        pause_s = 0.0
        while not self.stopped:
            self._collect(pause_s)
            with self._turn:
                pause_s = self._take_turn()
        self._close()

    def _take_turn(self) -> float:
        self.looks = True
        try:
            log, tail = self._opened(), self.tail
            self._look(log)
            if self._waiting:
                self._answer(log)
        except BrokerUnavailable as error:
            self._complain(error)
            self._close()
            return _RETRY_S
        self.looks = False
        self._complained = False
        if self.tail == tail:
            self._quiet_looks += 1
            return _LOOK_S if self._quiet_looks < _QUIET_AFTER else _QUIET_LOOK_S
        self._quiet_looks = 0
        self._breath.acquire(timeout=_BREATH_S)
        return _LOOK_S

    def let_go(self) -> None:
        """Close the connection and open none until `go_on`."""
        self._lets_go = self._turn.acquire(timeout=_LET_GO_S)
        if self._lets_go:
            self._close()

    def go_on(self) -> None:
        """Open one again."""
        if self._lets_go:
            self._turn.release()

    def _collect(self, pause_s: float) -> None:
        try:
            mail = self.mailbox.get(timeout=pause_s) if pause_s else self.mailbox.get_nowait()
            while True:
                if mail is not None:
                    self._waiting.append(mail)
                mail = self.mailbox.get_nowait()
        except Empty:
            pass

    def _opened(self) -> LogFile:
        now_ms = int(time.time() * 1000)
        if self._log is not None and not self._log.replaced:
            self._known_ms = now_ms
            return self._log
        self._close()
        self._log = log = self._broker.open_log(busy_s=_READ_BUSY_S)
        self._version = -1
        if self.epoch is None:
            self.tail = log.head
        elif self.epoch != log.epoch:
            # An epoch that began after the file was last seen in its place holds nothing but
            # news, and all of it is due; any other is somebody's past.
            self.tail = log.began_after if log.began_ms >= self._known_ms else log.head
            self._call(self._inbox.interrupted, None, str(Position(log.epoch, self.tail)))
        self.epoch = log.epoch
        self._known_ms = now_ms
        return log

    def _look(self, log: LogFile) -> None:
        version, more = log.version, True
        if version == self._version:
            return
        while more:
            news = log.news(self.channels, self.tail)
            if news.gone:
                position = str(Position(log.epoch, self.tail))
                self._call(self._inbox.interrupted, news.gone, position)
            if news.entries:
                self._call(self._inbox.deliver, news.entries)
            self.tail, more = news.head, news.more
        self._version = version

    def _answer(self, log: LogFile) -> None:
        while self._waiting:
            request = self._waiting[0]
            try:
                replay = log.read(request.channels, request.after)
            except BrokerUnavailable:
                raise
            except Exception as error:  # noqa: BLE001  one reader's question, not all readers' end
                self._waiting.pop(0)
                self._call(_set_exception, request.answer, error)
                continue
            # What the page has may be newer than the last look. It must be delivered first: the
            # reader is live after the page, and would get it again.
            self._look(log)
            self._call(_set_result, request.answer, replay)
            self._waiting.pop(0)

    def _close(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    def _complain(self, error: BrokerUnavailable) -> None:
        if not self._complained:
            _LOGGER.error("Readers get no events until this is mended: %s", error)
        self._complained = True

    def _call(self, callback: Callable[..., object], *args: object) -> None:
        try:
            self.sent += 1
            # An empty context: a copy of this thread's would be kept by whatever the loop starts.
            self._loop.call_soon_threadsafe(
                self._unless_stopped, callback, *args, context=contextvars.Context()
            )
        except RuntimeError:
            self.stopped = True  # the loop is closed: the process is going down

    def _unless_stopped(self, callback: Callable[..., object], *args: object) -> None:
        # On the loop, where `stop` is: what was on its way when it came is not delivered.
        self.heard += 1
        if not self.stopped:
            callback(*args)


def _set_exception(answer: asyncio.Future[Replay], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)


def _set_result(answer: asyncio.Future[Replay], replay: Replay) -> None:
    if not answer.done():
        answer.set_result(replay)
