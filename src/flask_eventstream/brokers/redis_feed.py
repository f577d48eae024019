"""The reading side of the Redis broker: one connection for all channels of a process.

One connection is subscribed to every channel that has a reader here; a second one reads logs. Both
belong to the hub's loop. redis-py connects, and speaks the protocol; but its own pub/sub object
mends a broken connection in silence, and a gap in silence is what must not be. So each connection
is a *session*: subscribe to all channels, read the log from where each of them was left (what
comes meanwhile is held), then live. When the session breaks, the next one does the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from redis.exceptions import RedisError

from flask_eventstream.brokers.broker import Inbox
from flask_eventstream.brokers.message import Unreadable, decode_message
from flask_eventstream.brokers.redis_log import diagnose
from flask_eventstream.brokers.redis_reader import ANSWER_S, LogReader
from flask_eventstream.brokers.redis_script import Keys
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.log import Entry, Replay, Retention
from flask_eventstream.position import Position

__all__ = ["RedisListener"]

_LOGGER = logging.getLogger("flask_eventstream")

#: Seconds of silence after which the server is asked whether it is there, and after which the
#: connection counts as broken. A stalled network shows no other sign.
_PING_S = 2.0
_SILENT_S = 5.0
#: Seconds between two tries: at once, and then not so often that it would be a burden.
_RETRIES_S = (0.05, 0.1, 0.2, 0.5, 1.0)
#: Seconds for which a channel without readers stays subscribed: somebody reloads the page.
_LINGER_S = 5.0
#: Channels in one command. A million-channel process must not stop the server for one SUBSCRIBE.
_BATCH = 500
#: Live messages held while a session catches up. More, and the session begins anew.
_MAX_HELD = 50_000
#: The offset of an entry that is in no log: greater than all, so no replay can have given it.
_NEVER_LOGGED = 2**63 - 1

_FAILURES = (RedisError, OSError, asyncio.TimeoutError)


class _Followed:
    """One subscribed channel."""

    __slots__ = ("last", "live", "wanted")

    def __init__(self) -> None:
        self.wanted = True
        self.live = asyncio.Event()
        """Set while the server has acknowledged the subscription."""
        self.last: Position | None = None
        """Everything up to here was delivered, or was given to readers from the log."""


class RedisListener:
    """The reading side: sessions, one after another, for as long as there are readers."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        inbox: Inbox,
        *,
        url: str,
        keys: Keys,
        shown: str,
        retention: Retention | None,
    ) -> None:
        self._loop = loop
        self._inbox = inbox
        self._shown = shown
        self._reader = LogReader(url, keys, shown=shown, retention=retention)
        self._followed: dict[str, _Followed] = {}
        self._held: list[tuple[Entry, Position | None]] | None = []
        self._connection: Any = None
        self._ready = asyncio.Event()
        self._pings = 0
        self._pongs: dict[bytes, asyncio.Future[None]] = {}
        self._heard_s = 0.0
        self._waiting: set[asyncio.Task[Any]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
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
            if new and self._connection is not None:
                # A failure is the session's to notice, and the next session subscribes to all.
                with contextlib.suppress(*_FAILURES):
                    await self._connection.send_command("SUBSCRIBE", *new)
            for channel in channels:
                await self._followed[channel].live.wait()

    def unsubscribe(self, channels: Collection[str]) -> None:
        """Deliver these channels no more; the server is told a little later."""
        for channel in channels:
            self._followed[channel].wanted = False
        self._loop.call_later(_LINGER_S, self._drop, tuple(channels))

    async def replay(self, channels: Sequence[str], after: str | None) -> Replay:
        """Read a page of the log; waits while the server is away."""
        with self._pending():
            while True:
                await self._ready.wait()
                try:
                    replay = await self._reader.replay(channels, after)
                    await self._heard_all()
                except (*_FAILURES, BrokerUnavailable) as error:
                    self._complain(error)
                    await asyncio.sleep(_RETRIES_S[-1])
                else:
                    reached = Position.parse(replay.position)
                    for channel in channels:
                        self._reach(self._followed.get(channel), reached)
                    return replay

    def stop(self) -> None:
        """End the session, and cancel what waits for the server."""
        self._task.cancel()
        for task in tuple(self._waiting):
            task.cancel()

    # ---- sessions

    async def _run(self) -> None:
        failures = 0
        try:
            while True:
                try:
                    await self._session()
                except (*_FAILURES, BrokerUnavailable) as error:
                    self._complain(error)
                failures = 0 if self._ready.is_set() else failures + 1
                self._ready.clear()
                await asyncio.sleep(_RETRIES_S[min(failures, len(_RETRIES_S) - 1)])
        finally:
            await self._reader.close()

    async def _session(self) -> None:
        await self._reader.open()
        connection = self._reader.make_connection()
        tasks: list[asyncio.Task[None]] = []
        try:
            await asyncio.wait_for(connection.connect(), ANSWER_S)
            self._held = []
            self._heard_s = self._loop.time()
            self._connection = connection
            works = (self._read(connection), self._watch(connection), self._catch_up())
            tasks += [self._loop.create_task(work) for work in works]
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        finally:
            self._connection = None
            for heard in self._pongs.values():
                if not heard.done():
                    heard.set_exception(ConnectionError("the session ended"))
            for followed in self._followed.values():
                followed.live.clear()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            with contextlib.suppress(*_FAILURES):
                await connection.disconnect(nowait=True)

    async def _read(self, connection: Any) -> None:
        while True:
            answer = await connection.read_response(disable_decoding=True)
            self._heard_s = self._loop.time()
            if not isinstance(answer, list):
                self._pong(answer)  # to a connection that is subscribed to nothing
            elif answer[0] == b"pong":
                self._pong(answer[1])
            else:
                self._take(answer)

    async def _watch(self, connection: Any) -> None:
        while True:
            await asyncio.sleep(_PING_S / 2)
            silent_s = self._loop.time() - self._heard_s
            if silent_s > _SILENT_S:
                raise asyncio.TimeoutError(f"it has been silent for {silent_s:.0f} s")
            if silent_s > _PING_S:
                await connection.send_command("PING")

    async def _catch_up(self) -> None:
        """Subscribe to all, read what was missed, then let go what was held meanwhile."""
        channels = list(self._followed)
        for batch in _batches(channels):
            await self._connection.send_command("SUBSCRIBE", *batch)
        for channel in channels:
            if channel in self._followed:
                await self._followed[channel].live.wait()
        for batch in _batches(channels):
            await self._resume(batch)
        held, self._held = self._held or [], None
        self._deliver(held)
        if self._complained:
            _LOGGER.warning("%s is back; readers have what they missed", self._shown)
        self._complained = False
        self._ready.set()

    async def _resume(self, channels: Sequence[str]) -> None:
        left = {
            channel: followed.last
            for channel in channels
            if (followed := self._followed.get(channel)) is not None and followed.last is not None
        }
        more = bool(left)
        while more:
            replay = await self._reader.resume(left)
            if replay.gone:
                self._inbox.interrupted(replay.gone, replay.start)
            self._deliver([(entry, Position.parse(entry.position)) for entry in replay.entries])
            reached = Position.parse(replay.position)
            for channel in left:
                self._reach(self._followed.get(channel), reached)
            if reached is not None:
                left = dict.fromkeys(left, reached)
            more = replay.more

    # ---- what the session hears

    def _take(self, answer: list[Any]) -> None:
        kind, channel = answer[0], answer[1].decode(errors="replace")
        followed = self._followed.get(channel)
        if followed is None:
            return
        if kind == b"subscribe":
            followed.live.set()
        elif kind == b"message":
            heard = self._understand(channel, answer[2])
            if heard is None:
                return
            if self._held is None:
                self._deliver([heard])
            elif len(self._held) < _MAX_HELD:
                self._held.append(heard)
            else:
                raise ConnectionError("more arrived than can be held while catching up")

    def _pong(self, token: bytes) -> None:
        heard = self._pongs.get(token)
        if heard is not None and not heard.done():
            heard.set_result(None)

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
            return Entry(channel, _NEVER_LOGGED, "", message.event), None
        return Entry(channel, position.sequence, str(position), message.event), position

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

    def _drop(self, channels: Iterable[str]) -> None:
        unwanted = [c for c in channels if (f := self._followed.get(c)) and not f.wanted]
        for channel in unwanted:
            del self._followed[channel]
        if unwanted and self._connection is not None:
            self._tasks.add(task := self._loop.create_task(self._unsubscribe(unwanted)))
            task.add_done_callback(self._tasks.discard)

    async def _heard_all(self) -> None:
        """Wait until everything that the server has sent so far on the session is delivered.

        A page of the log may have what is still on its way here. Whoever has the page is live
        after it and would get that again; those who are live would get it never, if it counted
        as delivered.
        """
        connection = self._connection
        if connection is None:
            raise ConnectionError("the session ended")
        self._pings += 1
        token = str(self._pings)
        heard: asyncio.Future[None] = self._loop.create_future()
        self._pongs[token.encode()] = heard
        try:
            await connection.send_command("PING", token)
            await heard
        finally:
            self._pongs.pop(token.encode(), None)

    async def _unsubscribe(self, channels: Sequence[str]) -> None:
        with contextlib.suppress(*_FAILURES):
            await self._connection.send_command("UNSUBSCRIBE", *channels)

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


def _batches(channels: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(channels), _BATCH):
        yield channels[start : start + _BATCH]
