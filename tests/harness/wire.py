"""A connection whose bytes a test writes and reads itself: old HTTP, pipelines, resets."""

from __future__ import annotations

import contextlib
import socket
import struct
from urllib.parse import urlsplit

from .leaving import Leaves
from .waiting import Deadline

__all__ = ["Wire", "request_line"]

READ_BYTES = 65_536
SHOWN_BYTES = 300
TIMEOUT_S = 10.0
# struct linger of socket(7): on, for zero seconds. Closing then sends RST instead of FIN.
RESET_AT_CLOSE = struct.pack("ii", 1, 0)


def request_line(url: str, method: str = "GET", version: str = "HTTP/1.1") -> str:
    """Give the first line of a request for the path and query of `url`."""
    parts = urlsplit(url)
    return f"{method} {parts.path}{'?' if parts.query else ''}{parts.query} {version}"


class Wire(Leaves):
    """One TCP connection to where `url` points; its path is not looked at. A context manager.

    Belongs to the calling thread.

    Attributes:
        received: all bytes that were read so far.
        ended: whether the server has closed its side, as far as was read.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.received = b""
        self.ended = False
        self._socket = socket.create_connection(
            (parts.hostname or "", parts.port or 80), timeout=TIMEOUT_S
        )

    def send(self, *lines: str) -> None:
        """Send lines, each with CRLF after it; an empty one ends a request's head."""
        self._socket.settimeout(TIMEOUT_S)
        self._socket.sendall("".join(f"{line}\r\n" for line in lines).encode("latin-1"))

    def send_bytes(self, content: bytes) -> None:
        """Send bytes as they are, such as a body or a part of one."""
        self._socket.settimeout(TIMEOUT_S)
        self._socket.sendall(content)

    def request(self, url: str, method: str = "GET", version: str = "HTTP/1.1") -> None:
        """Send a request without a body for the path and query of `url`."""
        self.send(request_line(url, method, version), "Host: localhost", "")

    def read_until(self, mark: bytes, within_s: float = TIMEOUT_S) -> bytes:
        """Read until `mark` has come, and give all that was received, what is behind it too.

        Raises:
            AssertionError: it did not come in time, or the connection ended before.
        """
        deadline = Deadline(within_s)
        while mark not in self.received:
            if self.ended:
                raise AssertionError(f"the connection ended before {mark!r}: {self._shown()!r}")
            self._read(deadline, what=repr(mark))
        return self.received

    def read_to_end(self, within_s: float = TIMEOUT_S) -> bytes:
        """Read until the server closes, and give all that was received.

        Raises:
            AssertionError: it is still open after `within_s` seconds.
        """
        deadline = Deadline(within_s)
        while not self.ended:
            self._read(deadline, what="the end of the connection")
        return self.received

    def close(self) -> None:
        """Close in order, with FIN. Safe to repeat."""
        self._socket.close()

    def reset(self) -> None:
        """Close with RST, as a program does that dies with unread bytes."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
        self._socket.close()

    def _read(self, deadline: Deadline, *, what: str) -> None:
        received = b""
        with contextlib.suppress(ConnectionError):
            self._socket.settimeout(max(deadline.left_s, 0.001))
            try:
                received = self._socket.recv(READ_BYTES)
            except TimeoutError:
                waited = f"waited {deadline.within_s:g} s for {what}"
                raise AssertionError(f"{waited}; the last bytes: {self._shown()!r}") from None
        self.received += received
        self.ended = not received

    def _shown(self) -> bytes:
        return self.received[-SHOWN_BYTES:]
