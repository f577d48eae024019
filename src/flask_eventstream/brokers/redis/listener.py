"""The reading side of the Redis broker: one connection for all channels of a process.

One connection is subscribed to every channel that has a reader here; a second one reads logs. Both
belong to the hub's loop. redis-py's own pub/sub object mends a broken connection in silence, and a
gap in silence is what must not be. So each connection is a *session* (see session.py):
subscribe to all channels, read the log from where each of them was left (what comes meanwhile is
held), then live. When the session breaks, the next one does the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from redis.exceptions import NoPermissionError

from flask_eventstream.brokers.broker import Inbox
from flask_eventstream.brokers.redis.catching_up import CatchingUp
from flask_eventstream.brokers.redis.following import Followed, Following, Heard
from flask_eventstream.brokers.redis.message import Decoder, Unreadable
from flask_eventstream.brokers.redis.pages import LogReader, Reading
from flask_eventstream.brokers.redis.reports import Reports
from flask_eventstream.brokers.redis.session import FAILURES, Cut, Session
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.log.entries import Replay, UpToDate

__all__ = ["RedisListener"]

_LOGGER = logging.getLogger("flask_eventstream")

#: Seconds between two tries: at once, and then not so often that it would be a burden.
_RETRIES_S = (0.05, 0.1, 0.2, 0.5, 1.0)
#: Seconds for which a channel without readers stays subscribed: somebody reloads the page.
_LINGER_S = 5.0
#: Pages that are read at the same time, each on a connection of its own. A thousand streams that
#: open at once must not be a thousand connections.
_PAGES_AT_ONCE = 8


class RedisListener:
    """The reading side: sessions, one after another, for as long as there are readers.

    Args:
        loop: Where all of it runs.
        inbox: Who is told.
        reader: Reads the logs of the same server.
        reports: Says what is wrong.
        is_node: True for a node of a cluster: shard channels, and a log for each.
        in_trouble: Called when a session ended, or a channel is no longer here.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        inbox: Inbox,
        reader: LogReader,
        *,
        reports: Reports,
        is_node: bool = False,
        in_trouble: Callable[[], object] = bool,
    ) -> None:
        self._loop = loop
        self._reader = reader
        self._reports = reports
        self._in_trouble = in_trouble
        self._following = Following(inbox.deliver)
        self._catching_up = CatchingUp(
            self._following, reader, reports, interrupted=inbox.interrupted, is_node=is_node
        )
        self._decoder = Decoder()
        self._session: Session | None = None
        self._ready = asyncio.Event()
        self._few = asyncio.Semaphore(_PAGES_AT_ONCE)
        self._waiting: set[asyncio.Task[Any]] = set()
        self._stopped = False
        self._task = loop.create_task(self._run())

    # ---- what the hub calls

    async def subscribe(self, channels: Collection[str]) -> None:
        """Deliver these channels from now on; waits while the server is away."""
        followed = self._following.channels
        new = [channel for channel in channels if channel not in followed]
        for channel in channels:
            followed.setdefault(channel, Followed()).wanted = True
        with self._pending():
            if new and self._session is not None:
                # Where it fails, the next session subscribes to all.
                await self._catching_up.subscribe(self._session, new)
            for channel in channels:
                await followed[channel].live.wait()

    def follow(self, standing: UpToDate) -> bool:
        """Deliver from there on, if these channels are live and stand there."""
        if not self._ready.is_set() or self._following.holding:
            return False
        for channel, latest in standing.latest.items():
            followed = self._following.channels.get(channel)
            if followed is None or not followed.stands_at(standing.page, latest):
                return False
        for channel in standing.latest:
            self._following.channels[channel].wanted = True
        return True

    def unsubscribe(self, channels: Collection[str]) -> None:
        """Deliver these channels no more; the server is told a little later."""
        for channel in channels:
            # A reader that left early never subscribed.
            if channel in self._following.channels:
                self._following.channels[channel].wanted = False
        self._loop.call_later(_LINGER_S, self._drop, tuple(channels))

    async def replay(self, channels: Sequence[str], after: str | None) -> Replay:
        """Read a page of the log; waits while the server is away."""
        with self._pending():
            while True:
                await self._ready.wait()
                session = self._session
                try:
                    reading = await self._read(channels, after)
                    # The page may have what is still on its way here. Whoever gets the page is
                    # live after it and would get that again; those who are live would get it
                    # never, if it counted as delivered. A later session would prove nothing:
                    # what was missed between is its to read.
                    if session is not None and await self._catching_up.all_heard(session, channels):
                        self._following.read(reading.stands, reading.state)
                        return reading.replay
                except (*FAILURES, BrokerUnavailable):
                    pass
                await asyncio.sleep(_RETRIES_S[0])

    async def _read(self, channels: Sequence[str], after: str | None) -> Reading:
        try:
            async with self._few:
                reading = await self._reader.replay(channels, after)
        except (*FAILURES, BrokerUnavailable) as error:
            self._reports.unread(channels, error)
            await asyncio.sleep(_RETRIES_S[-1])
            raise
        self._reports.read(channels)
        return reading

    def stop(self) -> None:
        """End the session, and cancel what waits for the server."""
        self._stopped = True
        self._task.cancel()
        for task in tuple(self._waiting):
            task.cancel()

    def give_away(self, channel: str) -> Followed | None:
        """Follow a channel no longer; another listener goes on where this one was."""
        followed = self._following.channels.pop(channel, None)
        if followed is not None:
            followed.end_session()
        return followed

    def take_over(self, channel: str, followed: Followed) -> None:
        """Follow a channel from where another listener was: in a new session."""
        self._following.channels[channel] = followed
        self.restart()

    def restart(self) -> None:
        """End the session; the next one catches up."""
        if self._session is not None:
            self._session.cut()

    # ---- sessions

    async def _run(self) -> None:
        failures = 0
        try:
            while not self._stopped:
                try:
                    await self._one_session()
                except Cut:
                    pass
                except (*FAILURES, BrokerUnavailable) as error:
                    self._reports.away(error)
                    self._in_trouble()
                except Exception:
                    # Whatever it is, the streams of this process must not fall silent for ever.
                    _LOGGER.exception("Reading from %s met a defect", self._reports.shown)
                failures = 0 if self._ready.is_set() else failures + 1
                self._ready.clear()
                await asyncio.sleep(_RETRIES_S[min(failures, len(_RETRIES_S) - 1)])
        finally:
            await self._reader.close()

    async def _one_session(self) -> None:
        await self._reader.begin()
        self._check()
        session = Session(
            self._loop, self._reader.make_connection(), take=self._take, refused=self._refused
        )
        try:
            await session.connect()
            self._check()
            self._catching_up.begin()
            self._session = session
            await session.run(self._begin(session))
        finally:
            self._session = None
            for followed in self._following.channels.values():
                followed.end_session()
            await session.close()

    def _check(self) -> None:
        # `wait_for` of Python 3.11 forgets a cancellation that comes together with the result
        # (python/cpython#86296): a listener that was stopped while it connects would go on.
        if self._stopped:
            raise asyncio.CancelledError

    async def _begin(self, session: Session) -> None:
        await self._catching_up.run(session)
        self._reports.back()
        self._ready.set()
        await self._catching_up.watch(session)

    # ---- what the session hears

    def _take(self, answer: list[Any]) -> None:
        kind = answer[0]
        channel = self._reader.keys.channel_of(answer[1].decode(errors="replace"))
        if kind in (b"subscribe", b"ssubscribe"):
            self._catching_up.subscribed(channel)
        followed = self._following.channels.get(channel)
        if followed is None:
            return
        if kind == b"sunsubscribe" and followed.wanted:
            self._in_trouble()  # its slot moved to another node
        elif kind in (b"message", b"smessage"):
            self._hear(channel, answer[2])

    def _refused(self, error: NoPermissionError) -> None:
        if self._session is not None:
            self._catching_up.refused(self._session, error)

    def _hear(self, channel: str, data: bytes) -> None:
        try:
            message = self._decoder.decode(data)
        except Unreadable as error:
            self._reports.skipped(channel, error)
            return
        was_holding = self._following.holding
        is_certain = self._following.hear(Heard(channel, message, len(data)))
        if not (is_certain or was_holding) and self._session is not None:
            self._session.keep(self._settle(self._session))

    async def _settle(self, session: Session) -> None:
        try:
            await self._catching_up.settle(session)
        except (*FAILURES, BrokerUnavailable):
            session.cut()  # the next session asks the log again

    def _drop(self, channels: Iterable[str]) -> None:
        followed = self._following.channels
        unwanted = {c: f for c in channels if (f := followed.get(c)) and not f.wanted}
        if self._session is not None:
            # An answer that is under way must not be taken for one to a later subscription.
            early = [channel for channel, one in unwanted.items() if not one.live.is_set()]
            if early:
                self._loop.call_later(_LINGER_S, self._drop, early)
            unwanted = {c: f for c, f in unwanted.items() if c not in early}
        for channel in unwanted:
            del followed[channel]
        self._reports.forget(unwanted)
        if unwanted and self._session is not None:
            self._session.keep(self._unsubscribe(self._session, unwanted))

    async def _unsubscribe(self, session: Session, channels: Iterable[str]) -> None:
        # Somebody may have come back since; then this would end what they asked for.
        unread = [channel for channel in channels if channel not in self._following.channels]
        if unread:
            await self._catching_up.unsubscribe(session, unread)

    @contextlib.contextmanager
    def _pending(self) -> Iterator[None]:
        """What runs inside is cancelled by `stop`."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  only coroutines come here
        self._waiting.add(task)
        try:
            yield
        finally:
            self._waiting.discard(task)
