"""The thread that reads a SQLite log for one hub: it looks for news, and answers for pages.

It looks when a publisher of its own process says so, and every `_LOOK_S` for those of others; a
look costs one ``stat`` and one ``PRAGMA data_version``.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from _queue import Empty
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flask_eventstream.brokers.broker import Inbox
from flask_eventstream.brokers.sqlite.log import LogFile
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.log.entries import Replay
from flask_eventstream.log.position import Position
from flask_eventstream.process import Lock, Mailbox

__all__ = ["PageRequest", "SqliteReader"]

_LOGGER = logging.getLogger("flask_eventstream")

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


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A page that the loop asked the reading thread for."""

    channels: Sequence[str]
    after: str | None
    answer: asyncio.Future[Replay]


class SqliteReader:
    """The reading thread: its connection, and how far it has read.

    The loop puts requests into ``mailbox`` and names into ``channels``, and looks at the rest of
    what is public; the thread calls the inbox on the loop.
    """

    def __init__(
        self,
        open_log: Callable[[], LogFile],
        loop: asyncio.AbstractEventLoop,
        inbox: Inbox,
        *,
        ended: Callable[[], object],
    ) -> None:
        self.mailbox: Mailbox[PageRequest | None] = Mailbox()
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
        self.skipped = 0
        """Rows that were passed over, because no event stream can carry them."""
        self._open_log = open_log
        self._loop = loop
        self._inbox = inbox
        self._ended = ended
        self._log: LogFile | None = None
        self._turn = Lock()
        self._breath = Lock()
        self._breath.acquire()  # for ever: waiting for it is a sleep that nobody patched
        self._lets_go = False
        self._version = -1
        self._inode = 0
        self._known_ms = 0
        """When the file was last seen where its name leads."""
        self._quiet_looks = 0
        """Looks since one found something."""
        self._waiting: list[PageRequest] = []
        self._complained = False

    @property
    def began(self) -> bool:
        """True when everything that is appended from now on will be seen."""
        return self.epoch is not None

    def run(self) -> None:
        """The thread: wait, look, answer; until stopped."""
        pause_s = 0.0
        try:
            while not self.stopped:
                self._collect(pause_s)
                with self._turn:
                    pause_s = self._take_turn()
        finally:
            self._close()
            self._ended()

    def _take_turn(self) -> float:
        self.looks = True
        try:
            log, tail = self._opened(), self.tail
            self._look(log)
            if self._waiting:
                self._answer(log)
        except BrokerUnavailable as error:
            self._complain("Readers get no events until this is mended: %s", error)
            self._close()
            return _RETRY_S
        except Exception as error:  # noqa: BLE001  without this thread nobody would hear anything
            self._complain("Reading the log met a defect, and goes on: %r", error, trace=True)
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
        self._log = log = self._open_log()
        self._version = -1
        if self.epoch is None:
            self.tail = log.head
        elif self.epoch != log.epoch and not self._goes_on(log, self.epoch):
            # An epoch that began after the file was last seen in its place holds nothing but
            # news, and all of it is due; any other is somebody's past.
            began = log.began
            self.tail = began.began_after if began.began_ms >= self._known_ms else log.head
            self._call(self._inbox.interrupted, None, str(Position(log.epoch, self.tail)))
        self.epoch = log.epoch
        self._inode = log.inode
        self._known_ms = now_ms
        return log

    def _goes_on(self, log: LogFile, epoch: str) -> bool:
        """True where another epoch began in the file that we know, and nothing of it is lost."""
        # A file in its place may show what lay beside the old one, and so more than it has.
        return log.inode == self._inode and log.knows(Position(epoch, self.tail))

    def _look(self, log: LogFile) -> None:
        version, more = log.version, True
        if version == self._version:
            return
        while more:
            news = log.news(self.channels, self.tail)
            self._tell_skipped(log)
            if news.gone:
                position = str(Position(log.epoch, self.tail))
                self._call(self._inbox.interrupted, news.gone, position)
            if news.entries:
                self._call(self._inbox.deliver, news.entries)
            self.tail, more = news.head, news.more
        self.epoch = log.epoch  # another process may have had a reason to begin it
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
            self._tell_skipped(log)

    def _close(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None

    def _complain(self, text: str, error: Exception, *, trace: bool = False) -> None:
        if not self._complained:
            _LOGGER.error(text, error, exc_info=error if trace else None)
        self._complained = True

    def _tell_skipped(self, log: LogFile) -> None:
        if log.skipped and not self.skipped:
            _LOGGER.warning(
                "Something else wrote into %s what is no event, and it is passed over: %s",
                log.path,
                log.skipped[0],
            )
        self.skipped += len(log.skipped)
        log.skipped.clear()

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
