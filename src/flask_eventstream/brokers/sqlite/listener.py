"""The reading side of a SQLite log, on the loop: it asks the reading thread, and hears of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from functools import partial

from flask_eventstream.brokers.broker import Inbox
from flask_eventstream.brokers.sqlite.log import LogFile
from flask_eventstream.brokers.sqlite.reader import PageRequest, SqliteReader
from flask_eventstream.log.entries import Entry, Replay, UpToDate
from flask_eventstream.process import start_os_thread

__all__ = ["SqliteListener"]


class SqliteListener:
    """The reading side. Its methods belong to the loop, all but `wake`, `let_go` and `go_on`.

    Args:
        open_log: Gives a connection of its own, on the reading thread.
        loop: The loop.
        inbox: Whom it tells.
        ended: Called when there is nothing to wake any more, on the loop or on the reading thread.
    """

    def __init__(
        self,
        open_log: Callable[[], LogFile],
        loop: asyncio.AbstractEventLoop,
        inbox: Inbox,
        *,
        ended: Callable[[SqliteListener], object],
    ) -> None:
        self._ended = partial(ended, self)
        self._loop = loop
        self._answers: set[asyncio.Future[Replay]] = set()
        self._delivered: dict[str, int] = {}
        """For each subscribed channel, a sequence up to which it was delivered, and from which on
        it will be."""
        self._reader = SqliteReader(open_log, loop, self, ended=self._ended)
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
        self._ended()
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
