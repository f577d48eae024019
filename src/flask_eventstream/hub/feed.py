"""A stream that an application's own iterable writes: what its pump sends goes to one client.

A pump (servers/pump.py) has a thread and one end of a socket pair, the hub has the other. This is
all that they say to each other: `FEED_OPEN` from here, then frames, then `FEED_FAILED` or nothing,
then end of file. So the pump may be in another process.
"""

from __future__ import annotations

import asyncio
from typing import cast

from flask_eventstream.errors import EndReason
from flask_eventstream.event import COMMENT
from flask_eventstream.hub.stream import Stream

__all__ = ["FEED_FAILED", "FEED_OPEN", "Feed"]

#: What the hub writes to a pump when the stream is open.
FEED_OPEN = b"!"

#: What a pump writes last where its iterable raised. No frame has this byte: frames are UTF-8.
FEED_FAILED = b"\xff"


class Feed(asyncio.Protocol):
    """The other end of a pump's socket: what comes out of it goes to one stream.

    The socket pair is the back-pressure: while the client reads slowly, nothing is read here, and
    the pump's thread waits in its ``send``.
    """

    __slots__ = ("_at_line_start", "_failed", "_stream", "_transport", "stopped", "wrote_at_s")

    def __init__(self, stream: Stream, *, now_s: float) -> None:
        self._stream = stream
        self._failed = False
        self._transport: asyncio.Transport | None = None
        self.stopped = False
        """True when the client left, perhaps while this was connected."""
        self._at_line_start = True
        self.wrote_at_s = now_s

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop has the socket."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        if not self.stopped:
            self._transport.write(FEED_OPEN)

    def data_received(self, data: bytes) -> None:
        """Pass on what the pump wrote."""
        if data.endswith(FEED_FAILED):
            self._failed = True
            data = data[: -len(FEED_FAILED)]
        self._at_line_start = data.endswith(b"\n")
        self.wrote_at_s = asyncio.get_running_loop().time()
        self._stream.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """The pump closed its end: the iterable is exhausted, or raised."""
        self._transport = None
        self._stream.end(EndReason.FAILED if exc or self._failed else EndReason.FINISHED)

    def beat(self, now_s: float) -> None:
        """Write a heartbeat, unless a frame is half written or the client has enough to read."""
        if self._at_line_start and not self._stream.paused:
            self._stream.write(COMMENT)
            self.wrote_at_s = now_s

    def pause(self) -> None:
        """Read no more of the pump."""
        if self._transport is not None and self._transport.is_reading():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read the pump again."""
        if self._transport is not None and not self._transport.is_reading():
            self._transport.resume_reading()

    def stop(self) -> None:
        """Nobody reads the stream any more: the pump's next write fails."""
        self.stopped = True
        if self._transport is not None:
            self._transport.abort()
