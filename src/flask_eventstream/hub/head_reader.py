"""Where a server's own response goes after its client was taken away: read, and thrown away."""

from __future__ import annotations

import _socket
import asyncio

from flask_eventstream.framing import HEAD_END

__all__ = ["HeadReader"]

#: Servers write heads of a few hundred bytes; nobody's cookies make 256 KiB.
_MAX_HEAD_BYTES = 256 * 1024
_READ_BYTES = 64 * 1024


class HeadReader:
    """Our end of the socket pair that the server writes its response into.

    It is read to its end, also after the head is complete or too long: the server's thread waits
    in its write until somebody reads, and closing early would make its last write fail, which the
    server would log. Belongs to the loop.
    """

    __slots__ = ("_buffer", "_loop", "_socket", "head")

    def __init__(self, loop: asyncio.AbstractEventLoop, sock: _socket.socket) -> None:
        self._loop = loop
        self._socket = sock
        self._buffer = bytearray()
        self.head: asyncio.Future[bytes] = loop.create_future()
        """The head without the blank line that ends it; empty where none came, or one too long."""
        loop.add_reader(sock.fileno(), self._read)

    def _read(self) -> None:
        try:
            data = self._socket.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close()
        elif not self.head.done():
            self._buffer += data
            head, end, _ = bytes(self._buffer).partition(HEAD_END)
            too_long = len(head) > _MAX_HEAD_BYTES
            if end or too_long:
                self._buffer.clear()
                self.head.set_result(b"" if too_long else head)

    def _close(self) -> None:
        self._loop.remove_reader(self._socket.fileno())
        self._socket.close()
        if not self.head.done():
            self.head.set_result(b"")
