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
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any

from flask_eventstream.brokers.broker import Inbox
from flask_eventstream.brokers.redis.diagnosis import diagnose
from flask_eventstream.brokers.redis.message import Unreadable, decode_message
from flask_eventstream.brokers.redis.pages import LogReader
from flask_eventstream.brokers.redis.session import FAILURES, Session
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.log.entries import Entry, Replay, UpToDate
from flask_eventstream.log.position import Position

__all__ = ["RedisListener"]

_LOGGER = logging.getLogger("flask_eventstream")

#: Seconds between two tries: at once, and then not so often that it would be a burden.
_RETRIES_S = (0.05, 0.1, 0.2, 0.5, 1.0)
#: Seconds for which a channel without readers stays subscribed: somebody reloads the page.
_LINGER_S = 5.0
#: Pages that are read at the same time, each on a connection of its own. A thousand streams that
#: open at once must not be a thousand connections.
_PAGES_AT_ONCE = 8
#: Channels in one command. A million-channel process must not stop the server for one SUBSCRIBE.
_BATCH = 500
#: Live messages held while a session catches up. More, and the session begins anew.
_MAX_HELD = 50_000
#: The sequence of an entry that is in no log: greater than all, so no replay can have given it.
_NEVER_LOGGED = 2**63 - 1


class _Followed:
    """One subscribed channel."""

    __slots__ = ("last", "live", "wanted")

    def __init__(self) -> None:
        self.wanted = True
        self.live = asyncio.Event()
        """Set while the server has acknowledged the subscription."""
        self.last: Position | None = None
        """Everything up to here was delivered, or was given to readers from the log."""

    def stands_at(self, page: Replay, latest: int) -> bool:
        """True where nothing was delivered that is newer than a page, and all that it knows of.

        ``latest`` is the sequence of the channel's last entry as of the page.
        """
        last = self.last
        return (
            last is not None
            and self.live.is_set()
            and page.position.startswith(f"{last.epoch}-")
            and latest <= last.sequence <= page.sequence
        )


class RedisListener:
    """The reading side: sessions, one after another, for as long as there are readers.

    Args:
        loop: Where all of it runs.
        inbox: Who is told.
        reader: Reads the logs of the same server.
        shown: The server, for people.
        is_node: True for a node of a cluster: shard channels, and a log for each.
        in_trouble: Called when a session ended, or a channel is no longer here.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        inbox: Inbox,
        reader: LogReader,
        *,
        shown: str,
        is_node: bool = False,
        in_trouble: Callable[[], object] = bool,
    ) -> None:
        self._loop = loop
        self._inbox = inbox
        self._reader = reader
        self._shown = shown
        self._is_node = is_node
        self._in_trouble = in_trouble
        self._followed: dict[str, _Followed] = {}
        self._held: list[tuple[Entry, Position | None]] | None = []
        self._session: Session | None = None
        self._ready = asyncio.Event()
        self._open_channels: set[str] = set()
        self._few = asyncio.Semaphore(_PAGES_AT_ONCE)
        self._waiting: set[asyncio.Task[Any]] = set()
        self._complained = False
        self.unreadable: Counter[str] = Counter()
        """Messages that were skipped, by what was wrong with them."""
        self._task = loop.create_task(self._run())

    # ---- what the hub calls

    async def subscribe(self, channels: Collection[str]) -> None:
        """Deliver these channels from now on; waits while the server is away."""
        new = [channel for channel in channels if channel not in self._followed]
        for channel in channels:
            self._followed.setdefault(channel, _Followed()).wanted = True
        with self._pending():
            if new and self._session is not None:
                # Where it fails, the next session subscribes to all.
                await self._session.try_to_send(*self._command("SUBSCRIBE", new))
            for channel in channels:
                await self._followed[channel].live.wait()

    def follow(self, standing: UpToDate) -> bool:
        """Deliver from there on, if these channels are live and stand there."""
        if not self._ready.is_set():
            return False
        for channel, latest in standing.latest.items():
            followed = self._followed.get(channel)
            if followed is None or not followed.stands_at(standing.page, latest):
                return False
        for channel in standing.latest:
            self._followed[channel].wanted = True
        return True

    def unsubscribe(self, channels: Collection[str]) -> None:
        """Deliver these channels no more; the server is told a little later."""
        for channel in channels:
            # A reader that left early never subscribed.
            if channel in self._followed:
                self._followed[channel].wanted = False
        self._loop.call_later(_LINGER_S, self._drop, tuple(channels))

    async def replay(self, channels: Sequence[str], after: str | None) -> Replay:
        """Read a page of the log; waits while the server is away."""
        with self._pending():
            while True:
                await self._ready.wait()
                session = self._session
                try:
                    async with self._few:
                        if self._is_node:
                            await self._open_channel(channels[0])
                        reading = await self._reader.replay(channels, after)
                    # The page may have what is still on its way here. Whoever gets the page is
                    # live after it and would get that again; those who are live would get it
                    # never, if it counted as delivered. A later session would prove nothing:
                    # what was missed between is its to read.
                    await _living(session).heard_all()
                except (*FAILURES, BrokerUnavailable) as error:
                    self._complain(error)
                    await asyncio.sleep(_RETRIES_S[-1])
                else:
                    self._recovered()
                    for channel, position in reading.stands.items():
                        self._reach(self._followed.get(channel), position)
                    return reading.replay

    def stop(self) -> None:
        """End the session, and cancel what waits for the server."""
        self._task.cancel()
        for task in tuple(self._waiting):
            task.cancel()

    def give_away(self, channel: str) -> _Followed | None:
        """Follow a channel no longer; another listener goes on where this one was."""
        followed = self._followed.pop(channel, None)
        if followed is not None:
            followed.live.clear()
        return followed

    def take_over(self, channel: str, followed: _Followed) -> None:
        """Follow a channel from where another listener was: in a new session."""
        self._followed[channel] = followed
        self.restart()

    def restart(self) -> None:
        """End the session; the next one catches up."""
        if self._session is not None:
            self._session.cut()

    # ---- sessions

    async def _run(self) -> None:
        failures = 0
        try:
            while True:
                try:
                    await self._one_session()
                except (*FAILURES, BrokerUnavailable) as error:
                    self._complain(error)
                    self._in_trouble()
                except Exception:
                    # Whatever it is, the streams of this process must not fall silent for ever.
                    _LOGGER.exception("Reading from %s met a defect", self._shown)
                failures = 0 if self._ready.is_set() else failures + 1
                self._ready.clear()
                await asyncio.sleep(_RETRIES_S[min(failures, len(_RETRIES_S) - 1)])
        finally:
            await self._reader.close()

    async def _one_session(self) -> None:
        await self._reader.begin()
        session = Session(self._loop, self._reader.make_connection(), self._take)
        try:
            await session.connect()
            self._held = []
            self._open_channels.clear()
            self._session = session
            await session.run(self._catch_up(session))
        finally:
            self._session = None
            for followed in self._followed.values():
                followed.live.clear()
            await session.close()

    async def _catch_up(self, session: Session) -> None:
        """Subscribe to all, read what was missed, then let go what was held meanwhile."""
        channels = list(self._followed)
        for batch in _batches(channels, 1 if self._is_node else _BATCH):
            await session.send(*self._command("SUBSCRIBE", batch))
        for channel in channels:
            if channel in self._followed:
                await self._followed[channel].live.wait()
        if not self._is_node:
            await self._reader.open("")
        for batch in _batches(channels, 1 if self._is_node else _BATCH):
            if self._is_node:
                await self._open_channel(batch[0])
            await self._resume(batch)
        held, self._held = self._held or [], None
        self._deliver(held)
        self._recovered()
        self._ready.set()

    async def _open_channel(self, channel: str) -> None:
        """In a cluster each channel is a log, to be opened once in each session."""
        if channel not in self._open_channels:
            await self._reader.open(channel)
            self._open_channels.add(channel)

    async def _resume(self, channels: Sequence[str]) -> None:
        left = {
            channel: followed.last
            for channel in channels
            if (followed := self._followed.get(channel)) is not None and followed.last is not None
        }
        more = bool(left)
        while more:
            reading = await self._reader.resume(left)
            replay = reading.replay
            if replay.gone:
                self._inbox.interrupted(replay.gone, replay.start)
            self._deliver([(entry, Position.parse(entry.position)) for entry in replay.entries])
            for channel, position in reading.stands.items():
                self._reach(self._followed.get(channel), position)
            left = {c: f.last for c in left if (f := self._followed.get(c)) and f.last is not None}
            more = replay.more and bool(left)

    # ---- what the session hears

    def _take(self, answer: list[Any]) -> None:
        kind = answer[0]
        channel = self._reader.keys.channel_of(answer[1].decode(errors="replace"))
        followed = self._followed.get(channel)
        if followed is None:
            return
        if kind in (b"subscribe", b"ssubscribe"):
            followed.live.set()
        elif kind == b"sunsubscribe" and followed.wanted:
            self._in_trouble()  # its slot moved to another node
        elif kind in (b"message", b"smessage"):
            heard = self._understand(channel, answer[2])
            if heard is None:
                return
            if self._held is None:
                self._deliver([heard])
            elif len(self._held) < _MAX_HELD:
                self._held.append(heard)
            else:
                raise ConnectionError("more arrived than can be held while catching up")

    def _understand(self, channel: str, data: bytes) -> tuple[Entry, Position | None] | None:
        try:
            message = decode_message(data)
        except Unreadable as error:
            if not self.unreadable[error.kind]:
                _LOGGER.warning(
                    "A message on %r of %s was skipped, %s", channel, self._shown, error
                )
            self.unreadable[error.kind] += 1
            return None
        position = message.position
        if position is None:
            return message.entry(channel, _NEVER_LOGGED), None
        return message.entry(channel, position.sequence), position

    def _deliver(self, heard: Sequence[tuple[Entry, Position | None]]) -> None:
        fresh = []
        for entry, position in heard:
            followed = self._followed.get(entry.channel)
            if followed is None or (position is not None and not self._reach(followed, position)):
                continue
            if followed.wanted:
                fresh.append(entry)
        if fresh:
            self._inbox.deliver(fresh)

    def _reach(self, followed: _Followed | None, position: Position | None) -> bool:
        """Note how far a channel was delivered; False where it was further already."""
        if followed is None or position is None:
            return False
        last = followed.last
        if last and last.epoch == position.epoch and last.sequence >= position.sequence:
            return False
        followed.last = position
        return True

    def _command(self, verb: str, channels: Iterable[str]) -> list[str]:
        names = map(self._reader.keys.pubsub, channels)
        return [f"S{verb}" if self._is_node else verb, *names]

    def _drop(self, channels: Iterable[str]) -> None:
        unwanted = {c: f for c in channels if (f := self._followed.get(c)) and not f.wanted}
        if self._session is not None:
            # An answer that is under way must not be taken for one to a later subscription.
            early = [
                channel for channel, followed in unwanted.items() if not followed.live.is_set()
            ]
            if early:
                self._loop.call_later(_LINGER_S, self._drop, early)
            unwanted = {c: f for c, f in unwanted.items() if c not in early}
        for channel in unwanted:
            del self._followed[channel]
        if unwanted and self._session is not None:
            self._session.keep(self._unsubscribe(self._session, unwanted))

    async def _unsubscribe(self, session: Session, channels: Iterable[str]) -> None:
        # Somebody may have come back since; then this would end what they asked for.
        unread = [channel for channel in channels if channel not in self._followed]
        if unread:
            await session.try_to_send(*self._command("UNSUBSCRIBE", unread))

    def _recovered(self) -> None:
        if self._complained:
            _LOGGER.warning("%s is back; readers have what they missed", self._shown)
        self._complained = False

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            why, remedy = diagnose(error)
            if isinstance(error, BrokerUnavailable):
                why, remedy = error.why, error.remedy
            _LOGGER.error(
                "Readers get no events until %s is back: %s; %s", self._shown, why, remedy
            )
        self._complained = True

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


def _living(session: Session | None) -> Session:
    if session is None:
        raise ConnectionError("the session ended")
    return session


def _batches(channels: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(channels), size):
        yield channels[start : start + size]
