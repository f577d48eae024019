"""One open stream: a client's socket on the hub's loop, and how it ends.

A `Stream` knows how to write and how to end, and nothing of channels or brokers. All of it belongs
to the hub's loop. There are thousands of them, so they hold little.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol, cast

from flask_eventstream.errors import EndReason
from flask_eventstream.event import COMMENT
from flask_eventstream.framing import LAST_CHUNK, encode_chunk
from flask_eventstream.hub.adoption import Adoption

__all__ = ["Source", "Stream", "StreamOwner"]

#: What a client may send after its request before it is shown the door. Browsers send nothing;
#: the rest of a body that the view did not read may still arrive.
_MAX_JUNK_BYTES = 64 * 1024


class StreamOwner(Protocol):
    """Who has streams: told once of each that is gone."""

    def lost(self, stream: Stream) -> None:
        """The stream's connection is closed; ``stream.reason`` says why."""


class Source(Protocol):
    """What writes a stream that has no channels, as the stream sees it: a feed (feed.py)."""

    wrote_at_s: float

    def beat(self, now_s: float) -> None:
        """Write a heartbeat, if this is the moment for one."""

    def pause(self) -> None:
        """The client takes nothing at present."""

    def resume(self) -> None:
        """It takes it again."""

    def stop(self) -> None:
        """Nobody reads the stream any more."""


class Stream(asyncio.Protocol):
    """A client's connection, from its adoption to its end."""

    __slots__ = (
        "_drained",
        "_junk_bytes",
        "_owner",
        "_transport",
        "chunked",
        "closed",
        "ending",
        "ends_at_s",
        "fd",
        "feed",
        "head",
        "opened",
        "opening",
        "paused",
        "reader",
        "reason",
    )

    def __init__(self, owner: StreamOwner, adoption: Adoption) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._drained: asyncio.Future[None] | None = None
        self._junk_bytes = 0
        self.fd = adoption.client.fileno()
        self.reader = adoption.request.reader
        self.feed: Source | None = None
        self.head = b""
        """The response head; leaves before the first write."""
        self.chunked = False
        """True where each write is a chunk."""
        self.opening: asyncio.Task[None] | None = None
        """The task that opens the stream, while it does."""
        self.opened = False
        """True when the head was written."""
        self.paused = False
        """True while more waits for the client than it may."""
        self.closed = False
        """True when the connection is gone."""
        self.ending: tuple[EndReason, bytes] | None = None
        """How it ends instead of its first bytes, where it was ended before them."""
        self.ends_at_s = float("inf")
        self.reason: EndReason | None = None
        """Why it ended; ``None`` while it goes on."""

    # ---- what the hub does

    def write(self, data: bytes) -> None:
        """Write to the client; what it does not take at once waits in memory."""
        if self.reason is None and self._transport is not None:
            framed = encode_chunk(data) if self.chunked and data else data
            if self.head:
                framed, self.head = self.head + framed, b""
            self._transport.write(framed)

    def push(self, data: bytes, chunk: bytes) -> None:
        """Write to a live client, which must keep up: if too much waits already, cut it.

        ``chunk`` is ``data`` as a chunk, made once for all who get it.
        """
        if self.paused:
            # A heartbeat is no reason: a large event may take longer than that to read.
            if data != COMMENT:
                self.cut(EndReason.SLOW)
        elif self.reason is None and self._transport is not None:
            self._transport.write(chunk if self.chunked else data)

    async def drained(self) -> None:
        """Wait until little enough waits for the client, or the stream ended."""
        if self.paused and self.reason is None:
            self._drained = asyncio.get_running_loop().create_future()
            await self._drained

    def end(self, reason: EndReason, farewell: bytes = b"") -> None:
        """Write a farewell, then end the connection once everything was sent."""
        if self.reason is None:
            self.write(farewell)
            self.reason = reason
            if self._transport is not None:
                if self.chunked and not self.head:
                    self._transport.write(LAST_CHUNK)
                # The end is said to the connection, not just to our descriptor of it: a copy in
                # some forked process would otherwise keep the client waiting.
                with contextlib.suppress(OSError, RuntimeError):
                    self._transport.write_eof()
                self._transport.close()

    def cut(self, reason: EndReason) -> None:
        """End the connection at once; what waits for the client is dropped."""
        if self.reason is None:
            self.reason = reason
            if self._transport is not None:
                self._transport.abort()

    def abandon(self) -> None:
        """Drop the connection, whatever it still waits for: the process ends."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def connected(self) -> bool:
        """True while the loop has the socket."""
        return self._transport is not None

    @property
    def transportless(self) -> bool:
        """True where the loop never had the socket, and nobody was told that it is gone."""
        return self._transport is None and not self.closed

    # ---- what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop has the socket."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Whatever a client sends after its request has no meaning here."""
        self._junk_bytes += len(data)
        if self._junk_bytes > _MAX_JUNK_BYTES:
            self.cut(EndReason.CHATTY)

    def eof_received(self) -> bool:
        """A client that closes its side has left: browsers and proxies never half-close."""
        if self.reason is None:
            self.reason = EndReason.LEFT
        return False

    def pause_writing(self) -> None:
        """More than the bound waits for the client."""
        self.paused = True
        if self.feed is not None:
            self.feed.pause()

    def resume_writing(self) -> None:
        """The client took it."""
        self.paused = False
        if self.feed is not None:
            self.feed.resume()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone, whoever ended it."""
        if self.reason is None:
            self.reason = EndReason.LOST if exc else EndReason.LEFT
        self._transport = None
        self.closed = True
        self._wake()
        if self.feed is not None:
            self.feed.stop()
        self._owner.lost(self)

    def set_max_buffer(self, size_bytes: int) -> None:
        """What may wait for the client before it counts as slow."""
        if self._transport is not None:
            self._transport.set_write_buffer_limits(high=size_bytes)

    def _wake(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
