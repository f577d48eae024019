"""A request's body, taken in before a thread is taken for the request.

A thread that reads a body waits for its client: ten clients that announce one and send nothing
would hold ten threads. So it is read here, on the loop, which waits for thousands. What is larger
than a page or two of form lies in a file, and who sends too slowly is told so.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterable, MutableMapping
from typing import Any

from flask_eventstream.servers.asgi.transport import Message, Receive

__all__ = ["BodyLate", "ClientLeft", "RequestBody"]

Headers = list[tuple[bytes, bytes]]

#: Of each request; the rest lies in a file without a name.
_IN_MEMORY_BYTES = 64 * 1024

_PIECE_BYTES = 64 * 1024

#: Seconds that a body may take, and bytes that buy one more: what Apache's mod_reqtimeout gives
#: (``body=20,MinRate=500``).
PATIENCE_S = 20.0
_LEAST_BYTES_PER_S = 500


class BodyLate(Exception):
    """The client takes too long to send what it announced."""


class ClientLeft(Exception):
    """The client left before its request was whole."""


class RequestBody:
    """The body of one request. Belongs to the loop. `close` it.

    Args:
        scope: The request's.
        receive: The server's.
        max_bytes: What the application takes at the most; it refuses the rest by itself.
    """

    def __init__(
        self, scope: MutableMapping[str, Any], receive: Receive, *, max_bytes: int | None
    ) -> None:
        self._receive = receive
        self._max_bytes = max_bytes
        self._headers: Headers = list(_unambiguous(scope["headers"]))
        self._announced = _announced(scope, self._headers)
        self._file: Any = None
        self._size = 0
        self._whole = False

    async def take_in(self) -> None:
        """Wait for the body.

        Raises:
            BodyLate: It came too slowly.
            ClientLeft: It will not come.
        """
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        while not self._whole and self._may_take_more():
            left_s = began_s + PATIENCE_S + self._size / _LEAST_BYTES_PER_S - loop.time()
            try:
                message = await asyncio.wait_for(self._next(), left_s)
            except asyncio.TimeoutError as error:
                raise BodyLate from error
            if message["type"] == "http.disconnect":
                raise ClientLeft
            await self._keep(message.get("body", b""))
            self._whole = not message.get("more_body", False)
        if self._file is not None:
            self._file.seek(0)

    def headers(self) -> Headers:
        """The request's, with the length of the body as it came, also of one without a length."""
        if not self._size:
            return self._headers
        others = [(name, value) for name, value in self._headers if name not in _FRAMING]
        return [*others, (b"content-length", b"%d" % max(self._size, self._announced or 0))]

    async def receive(self) -> Message:
        """What the application asks for: a piece of what was taken in, then what follows it."""
        piece = b"" if self._file is None else self._file.read(_PIECE_BYTES)
        if piece or self._whole:
            more = not self._whole or (self._file is not None and self._file.tell() < self._size)
            return {"type": "http.request", "body": piece, "more_body": more}
        return await self._next()

    def close(self) -> None:
        """Forget it."""
        if self._file is not None:
            self._file.close()

    def _may_take_more(self) -> bool:
        if self._announced == 0:
            return False
        most = self._max_bytes
        return most is None or max(self._announced or 0, self._size) <= most

    async def _next(self) -> Message:
        # Granian gives an awaitable that is no coroutine.
        return await self._receive()

    async def _keep(self, data: bytes) -> None:
        if not data:
            return
        if self._file is None:
            self._file = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115  see close
        self._size += len(data)
        if self._size <= _IN_MEMORY_BYTES:
            self._file.write(data)
        else:  # a disk may take its time
            await asyncio.get_running_loop().run_in_executor(None, self._file.write, data)


_FRAMING = (b"content-length", b"transfer-encoding")


def _unambiguous(headers: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[bytes, bytes]]:
    """Headers without those whose name has an underscore.

    Under WSGI ``X_Forwarded_User`` and ``X-Forwarded-User`` are one name, and a proxy that guards
    the one lets the other pass. Servers of WSGI drop it, and so does nginx.
    """
    return ((bytes(name), bytes(value)) for name, value in headers if b"_" not in name)


def _announced(scope: MutableMapping[str, Any], headers: Headers) -> int | None:
    """How many bytes are to come; ``None`` where that is not known before."""
    said = {name.lower(): value for name, value in headers}
    if b"transfer-encoding" in said:
        return None
    length = said.get(b"content-length")
    if length is not None:
        return int(length) if length.isdigit() else None
    return 0 if scope.get("http_version", "1.1").startswith("1") else None
