"""A stream's way into an ASGI server's ``send``: what the hub takes for a transport.

Belongs to the server's loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

__all__ = ["AsgiTransport", "Message", "Receive", "Send"]

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: What may wait for a client until the hub says otherwise: asyncio's own bound.
_HIGH_BYTES = 64 * 1024

#: Seconds between two looks at what waits in the server.
_LOOK_S = 0.1

#: Seconds that a server gets to notice that we broke a connection off.
_BREAK_OFF_S = 1.0


class AsgiTransport(asyncio.Transport):
    """What a stream takes for its transport: it writes to the server's ``send``.

    The server does the framing. What it does not take at once waits here, and counts.
    """

    def __init__(
        self,
        send: Send,
        *,
        break_off: Callable[[], object] | None,
        backlog: Callable[[], int] | None,
    ) -> None:
        super().__init__()
        self.head: Message | None = None
        """The response's start. It leaves with the first byte, when the hub knows where the log
        stands: who publishes as soon as the stream is open must get the event."""
        self._loop = asyncio.get_running_loop()
        self._send = send
        self._break_off = break_off
        self._backlog = backlog
        self._broken = False
        self._protocol: asyncio.Protocol | None = None
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._waiting: list[bytes] = []
        self._size = 0
        self._high = _HIGH_BYTES
        self._paused = False
        self._closing = False
        self._sending: asyncio.Task[None] | None = None

    # ---- what the server's side does

    async def stay(self, receive: Receive) -> None:
        """Keep the request until the stream is over, or its client left."""
        watching = self._loop.create_task(self._watch(receive))
        try:
            await self._over
            if self._broken:
                # Else the server would complain of a response that is not complete.
                await asyncio.wait({watching}, timeout=_BREAK_OFF_S)
        finally:
            watching.cancel()
            self.lose()

    async def _watch(self, receive: Receive) -> None:
        try:
            # What else comes is the rest of a body that the view did not read.
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            self.lose()

    def lose(self, error: Exception | None = None) -> None:
        """The client is gone, or shall be: it gets nothing more."""
        if not self._over.done():
            self._over.set_result(None)
            self._waiting.clear()
            if self._sending is not None:
                self._sending.cancel()
            if self._protocol is not None:
                self._loop.call_soon(self._protocol.connection_lost, error)

    # ---- what the hub does: a ServerConnection

    def connect(self, protocol: asyncio.Protocol) -> None:
        """Be the protocol's transport."""
        self._protocol = protocol
        protocol.connection_made(self)
        if self._over.done():
            self._loop.call_soon(protocol.connection_lost, None)

    def fileno(self) -> int:
        """No descriptor is ours."""
        return -1

    def detach(self) -> None:
        """No stream took it: end the response in order, or its client would wait for ever."""
        self.close()

    # ---- what the stream does: a transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send it, after what waits already."""
        if data and not self._closing and not self._over.done():
            self._waiting.append(bytes(data))
            self._size += len(data)
            self._start_sending()
            self._pause_or_resume()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Pause the stream where more than ``high`` bytes wait."""
        self._high = _HIGH_BYTES if high is None else high

    def write_eof(self) -> None:
        """The response has an end of its own."""

    def close(self) -> None:
        """End the response when everything was sent."""
        if not self._closing and not self._over.done():
            self._closing = True
            self._start_sending()

    def is_closing(self) -> bool:
        """True where nothing more can be written."""
        return self._closing or self._over.done()

    def abort(self) -> None:
        """End the response at once."""
        if self.head is not None and not self._over.done():
            # Nothing was sent, and a response that never starts would be an error of ours.
            self._waiting.clear()
            self.close()
            return
        if self._break_off is not None and not self._over.done():
            self._broken = True
            self._break_off()
        self.lose()

    # ---- sending

    def _start_sending(self) -> None:
        if self._sending is None and not self._over.done():
            self._sending = self._loop.create_task(self._send_all())

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                data = b"".join(self._waiting)
                self._waiting.clear()
                await self._send_head()
                await self._send({"type": "http.response.body", "body": data, "more_body": True})
                while self._backlog and self._backlog() > _HIGH_BYTES:  # noqa: ASYNC110  its own
                    await asyncio.sleep(_LOOK_S)
                self._size -= len(data)
                self._pause_or_resume()
            if self._closing:
                await self._send_head()
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
                self.lose()
        except Exception as error:  # noqa: BLE001  each server has its own for a client that left
            self.lose(error)
        finally:
            self._sending = None

    async def _send_head(self) -> None:
        if self.head is not None:
            head, self.head = self.head, None
            await self._send(head)

    def _pause_or_resume(self) -> None:
        if self._protocol is None or self._over.done():
            return
        if not self._paused and self._size > self._high:
            self._paused = True
            self._protocol.pause_writing()
        elif self._paused and self._size <= self._high // 4:  # as asyncio's transports do
            self._paused = False
            self._protocol.resume_writing()
