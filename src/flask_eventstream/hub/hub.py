"""The hub: every stream of one application in this process, on the loop that it is given.

It encodes nothing twice, waits for no client, and asks the broker for nothing that another stream
already has: one group of streams per set of channels, one splice per channel.

Everything here belongs to the loop. No ``await`` stands between looking at a table and changing it.
"""

from __future__ import annotations

import _socket
import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from flask_eventstream.brokers import Broker, Listener
from flask_eventstream.config import Config
from flask_eventstream.errors import EndReason
from flask_eventstream.event import (
    COMMENT,
    RESET,
    encode_channels_event,
    encode_padding,
    encode_retry,
)
from flask_eventstream.framing import rewrite_head, says_http_1_1, status_of
from flask_eventstream.hub.adoption import Adoption
from flask_eventstream.hub.catchup import CatchUp
from flask_eventstream.hub.connecting import connect, connect_feed
from flask_eventstream.hub.fanout import FanOut
from flask_eventstream.hub.feed import Feed
from flask_eventstream.hub.groups import Group, Groups
from flask_eventstream.hub.head_reader import HeadReader
from flask_eventstream.hub.observer import Observer, Unobserved
from flask_eventstream.hub.request import StreamRequest
from flask_eventstream.hub.shared_pages import SharedPages
from flask_eventstream.hub.splice import Splice
from flask_eventstream.hub.stream import Stream
from flask_eventstream.log.entries import Entry, Replay, UpToDate

__all__ = ["Hub", "Stats"]

_LOGGER = logging.getLogger("flask_eventstream")
_HTTP_OK = 200

#: How long a new stream's head waits for the broker to say where the log stands. A reader that
#: publishes as soon as its stream is open must get its own event, so the position is asked first;
#: but a broker that is away must not keep ``onopen`` from firing.
_OPEN_WAIT_S = 1.0

#: The reading side of the broker outlives the last stream by this much: the gap between two page
#: loads of a lone user.
_LINGER_S = 5.0

#: The part of a heartbeat after which the hub looks who has been silent for too long. With a
#: quarter, a heartbeat came after three quarters of its time: a seventh more of them.
_TICK = 1 / 8

#: Streams that reach their lifetime come back within this time, spread evenly.
_RENEWAL_MS = 1000
_LIFETIME_SPREAD = 0.2
#: The least that a client of a stopping process waits: its successor must be listening.
_LEAST_RETRY_MS = 100


@dataclass(frozen=True, slots=True)
class Stats:
    """What a hub does, at one moment."""

    streams: int
    """Open streams."""
    opened: int
    """Streams adopted so far."""
    deliveries: int
    """Writes of events to streams so far."""
    ended: Mapping[str, int]
    """How many streams ended so far, by `EndReason` value."""


class Hub:
    """Adopts streams and gives each what its channels bring.

    Args:
        loop: Where all of it runs.
        broker: The log of events.
        config: Heartbeat, retry, lifetime and bounds.
        max_streams: How many streams it may hold.
        random: A number from 0 to 1, to spread reconnects.
        released: Called with the descriptor of each client that is gone, before it is closed.
        observer: Told what happens to streams.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        broker: Broker,
        config: Config,
        *,
        max_streams: int,
        random: Callable[[], float],
        released: Callable[[int], object],
        observer: Observer | None = None,
    ) -> None:
        self.loop = loop
        self._broker = broker
        self._config = config
        self._max_streams = max_streams
        self._random = random
        self._released = released
        self._observer = observer or Unobserved()
        self._streams: dict[Stream, tuple[str, ...]] = {}
        self._groups = Groups()
        self._waiting: dict[str, set[Splice]] = {}
        self._readers: Counter[str] = Counter()
        self._fan_out = FanOut(loop)
        self._pages = SharedPages(loop)
        self._listener: Listener | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._beat_waiting_at_s = loop.time()
        self._opened = 0
        self._ended: Counter[str] = Counter()
        self._empty = asyncio.Event()
        self._empty.set()
        self._stopped = False

    def stats(self) -> Stats:
        """What the hub does now. Any thread may ask."""
        return Stats(
            streams=len(self._streams),
            opened=self._opened,
            deliveries=self._fan_out.deliveries,
            ended=dict(self._ended),
        )

    @property
    def full(self) -> bool:
        """True where a further stream would be sent away. Any thread may ask."""
        return len(self._streams) >= self._max_streams

    # ---- opening

    def adopt(self, adoption: Adoption) -> None:
        """Take a stream over and open it."""
        request = adoption.request
        self._opened += 1
        self._observer.opened(request.reader, request.channels)
        stream = Stream(self, adoption)
        refused = self._stopped or len(self._streams) >= self._max_streams
        self._streams[stream] = request.channels
        # Counted here because `lost` takes it back, also of a stream that never got far.
        self._readers.update(request.channels)
        self._empty.clear()
        if self._beat is None:
            self._beat = self.loop.call_later(self._config.heartbeat_s * _TICK, self._tick)
        stream.opening = self.loop.create_task(self._open(stream, adoption, refused=refused))

    async def _open(self, stream: Stream, adoption: Adoption, *, refused: bool) -> None:
        request = adoption.request
        try:
            await connect(self.loop, stream, adoption.client)
            stream.set_max_buffer(self._config.max_buffer_bytes)
            stream.ends_at_s = self._end_of_life(request.lifetime_s)
            if adoption.head_pair is not None:
                head = await HeadReader(self.loop, adoption.head_pair).head
                self._frame(stream, head, may_chunk=adoption.may_chunk)
            if refused:
                self._observer.refused(stream.reader, EndReason.REFUSED.value)
                stream.end(EndReason.REFUSED, encode_retry(self._spread_ms()) + COMMENT)
            if stream.reason is not None:
                return
            padding = encode_padding(request.padding_bytes)
            preamble = padding + encode_retry(self._config.retry_ms) + COMMENT
            if adoption.feed is not None:
                await self._feed(stream, adoption.feed, preamble)
            else:
                await self._follow(stream, request, preamble)
        except asyncio.CancelledError:
            stream.cut(EndReason.LEFT)
        except Exception:
            _LOGGER.exception("A stream could not be opened")
            stream.cut(EndReason.FAILED)
        finally:
            stream.opening = None
            if adoption.feed is not None and stream.feed is None:
                adoption.feed.close()  # or its pump would wait for ever
            if not stream.connected and stream in self._streams:
                # It never had a transport. Whether the loop closed the descriptor nobody can tell,
                # and closing it twice could hit another thread's: forget it.
                adoption.client.detach()
                self.lost(stream)

    def _frame(self, stream: Stream, head: bytes, *, may_chunk: bool) -> None:
        """Give the stream the head that the server wrote, and the framing that goes with it."""
        if status_of(head) == _HTTP_OK:
            stream.chunked = may_chunk and says_http_1_1(head)
            stream.head = rewrite_head(head, chunked=stream.chunked)
        else:
            # The server wrote none, or middleware made another answer of it; its body is lost.
            stream.head = rewrite_head(head) if head else b""
            stream.end(EndReason.NO_HEAD)

    async def _feed(self, stream: Stream, feed: _socket.socket, preamble: bytes) -> None:
        stream.write(preamble)
        stream.opened = True
        stream.feed = protocol = Feed(stream, now_s=self.loop.time())
        await connect_feed(self.loop, protocol, feed)

    async def _follow(self, stream: Stream, request: StreamRequest, preamble: bytes) -> None:
        """Replay what the client missed, then make it live (see splice.py)."""
        channels, standing = request.channels, request.standing
        catch_up = CatchUp(
            channels,
            request.after,
            preamble=preamble,
            tells_position=request.tells_position,
        )
        if isinstance(standing, UpToDate) and self._listening().follow(standing):
            stream.write(catch_up.page(standing.page))
            stream.opened = True
            self._join(stream, channels, catch_up)
            return
        # From its request on, however late it is here.
        after = standing.page.position if isinstance(standing, UpToDate) else request.after
        splice = Splice(after)
        self._wait(splice, channels)
        page = self.loop.create_task(self._first_page(splice, channels))
        try:
            await asyncio.wait({page}, timeout=_OPEN_WAIT_S)
            if not page.done():
                stream.write(catch_up.preamble())
                stream.opened = True
            while True:
                replay = await page
                splice.replayed(replay)
                stream.write(catch_up.page(replay))
                stream.opened = True
                await stream.drained()
                if stream.reason is not None:
                    return
                if splice.caught_up:
                    break
                page = self.loop.create_task(self._next_page(splice, channels))
            # From here to live there is no await: nothing can come in between.
            stream.write(catch_up.release(splice.release()))
            self._join(stream, channels, catch_up)
        finally:
            page.cancel()
            self._wait_no_more(splice, channels)

    async def _first_page(self, splice: Splice, channels: tuple[str, ...]) -> Replay:
        await self._listening().subscribe(channels)
        return await self._next_page(splice, channels)

    async def _next_page(self, splice: Splice, channels: tuple[str, ...]) -> Replay:
        splice.reading()
        return await self._pages.read(self._listening(), channels, splice.after)

    def _join(self, stream: Stream, channels: tuple[str, ...], catch_up: CatchUp) -> None:
        group = self._groups.get(channels)
        if group is None:
            group = Group(
                channels,
                ended=catch_up.ended,
                now_s=self.loop.time(),
                cursor=catch_up.cursor,
            )
            self._groups.add(group)
        else:
            # What the group is about to be given, the stream has got from the log.
            self._fan_out.seal(group)
            self._streams[stream] = group.channels
        group.join(stream)
        if group.over:
            stream.end(EndReason.ENDED)

    def _listening(self) -> Listener:
        if self._listener is None:
            self._listener = self._broker.listen(self.loop, self)
        return self._listener

    def _wait(self, splice: Splice, channels: tuple[str, ...]) -> None:
        for channel in channels:
            self._waiting.setdefault(channel, set()).add(splice)

    def _wait_no_more(self, splice: Splice, channels: tuple[str, ...]) -> None:
        for channel in channels:
            waiting = self._waiting[channel]
            waiting.discard(splice)
            if not waiting:
                del self._waiting[channel]

    # ---- delivering: what the listener calls

    def deliver(self, entries: Sequence[Entry]) -> None:
        """Give new entries to whom they are for."""
        self._pages.heard(entries)
        for entry in entries:
            for group in self._groups.of(entry.channel):
                group.add(entry)
                self._fan_out.ready(group)
            for splice in self._waiting.get(entry.channel, ()):
                splice.hold(entry)

    def interrupted(self, channels: Collection[str] | None, position: str) -> None:
        """Tell live readers of what is gone; let waiting ones read the log again."""
        self._pages.forget(channels)
        for group in self._groups:
            gone = [c for c in group.channels if channels is None or c in channels]
            if gone:
                group.frames.append(
                    encode_channels_event(RESET, gone, group.cursor.jump(gone, position))
                )
                group.ended.difference_update(gone)
                self._fan_out.ready(group)
        for channel, waiting in self._waiting.items():
            if channels is None or channel in channels:
                for splice in waiting:
                    splice.interrupt()

    # ---- keeping, and ending

    def lost(self, stream: Stream) -> None:
        """Forget a stream whose connection is closed."""
        channels = self._streams.pop(stream)
        reason = stream.reason or EndReason.LOST
        self._ended[reason.value] += 1
        _LOGGER.debug("A stream of %s ended: %s", channels, reason.value)
        self._released(stream.fd)
        if stream.opening is not None:
            stream.opening.cancel()
        if channels:
            self._leave(stream, channels)
        self._observer.closed(stream.reader, channels, reason)
        if not self._streams:
            self._empty.set()
            self.loop.call_later(_LINGER_S, self._rest)

    def _leave(self, stream: Stream, channels: tuple[str, ...]) -> None:
        self._groups.leave(stream, channels)
        self._readers.subtract(channels)
        unread = [channel for channel in channels if self._readers[channel] <= 0]
        for channel in unread:
            del self._readers[channel]
        self._pages.forget(unread)
        if self._listener is not None and unread:
            self._listener.unsubscribe(unread)

    def _rest(self) -> None:
        """Nobody has come for a while: stop listening, and counting time."""
        if not self._streams:
            if self._listener is not None:
                self._listener.stop()
                self._listener = None
            if self._beat is not None:
                self._beat.cancel()
                self._beat = None

    def _tick(self) -> None:
        self._beat = self.loop.call_later(self._config.heartbeat_s * _TICK, self._tick)
        now_s = self.loop.time()
        # A tick before it is due, because the next look is a tick later.
        silent_since_s = now_s - (1 - _TICK) * self._config.heartbeat_s
        beat_waiting = self._beat_waiting_at_s <= silent_since_s
        if beat_waiting:
            self._beat_waiting_at_s = now_s
        for group in self._groups:
            if group.wrote_at_s <= silent_since_s:
                group.frames.append(COMMENT)
                self._fan_out.ready(group)
        for stream in tuple(self._streams):
            if now_s >= stream.ends_at_s:
                stream.end(EndReason.AGE, encode_retry(int(_RENEWAL_MS * self._random())))
            elif stream.feed is not None:
                if stream.feed.wrote_at_s <= silent_since_s:
                    stream.feed.beat(now_s)
            elif beat_waiting and stream.opening and stream.opened and not stream.paused:
                stream.write(COMMENT)  # it waits for a broker that is away

    async def stop(self, timeout_s: float) -> None:
        """Say goodbye to every stream, and wait until all are closed, or cut them."""
        self._stopped = True
        self._fan_out.finish()
        for stream in tuple(self._streams):
            if stream.opened:
                stream.end(EndReason.SHUTDOWN, encode_retry(self._spread_ms()) + COMMENT)
            else:
                stream.cut(EndReason.SHUTDOWN)
        if self._listener is not None:
            self._listener.stop()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._empty.wait(), timeout_s)
        for stream in tuple(self._streams):
            stream.abandon()

    def _end_of_life(self, lifetime_s: float) -> float:
        if not lifetime_s:
            return float("inf")
        return self.loop.time() + lifetime_s * (1 - _LIFETIME_SPREAD * self._random())

    def _spread_ms(self) -> int:
        """A retry that keeps the clients of a busy or stopping process from coming back at once."""
        return int(_LEAST_RETRY_MS + self._config.retry_ms * self._random())
