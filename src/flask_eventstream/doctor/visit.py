"""One visit to an address, as a browser makes it, with a clock in hand.

HTTP/1.1 over a socket, because what matters here is *when* bytes come, also after a wait that was
in vain; Python's own HTTP client can't be read on after a timeout. It blocks, and belongs to the
thread that uses it. Nothing here knows what an event is.
"""

from __future__ import annotations

import http.client
import io
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.message import Message
from types import TracebackType
from urllib.parse import urlsplit

__all__ = ["Address", "Visit", "offers_http2"]

_READ_BYTES = 64 * 1024
_HEAD_END = b"\r\n\r\n"
_PORTS = {"http": 80, "https": 443}

#: zlib's way to say: gzip, with the largest window.
_GZIP = 16 + zlib.MAX_WBITS

_FIRST_FINAL_STATUS = 200


@dataclass(frozen=True, slots=True)
class Address:
    """Where a URL leads."""

    url: str
    host: str
    port: int
    is_tls: bool
    target: str
    """Path and query, as they stand in the request line."""
    authority: str
    """What the Host header says."""

    @classmethod
    def parse(cls, url: str) -> Address:
        """Take a URL apart.

        Raises:
            ValueError: It is no address of the web.
        """
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
        if port is None or not parts.hostname or not url.isascii() or not url.isprintable():
            raise ValueError("write http://host/stream or https://host/stream")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        authority = parts.netloc.rpartition("@")[2]
        return cls(url, parts.hostname, port, parts.scheme == "https", target, authority)

    def connect(self, protocols: list[str], *, within_s: float) -> socket.socket:
        """A connection, with TLS if the address wants it; certificates are checked.

        Raises:
            OSError: There is none; `socket.gaierror` and `ssl.SSLError` are kinds of it.
        """
        connection = socket.create_connection((self.host, self.port), timeout=within_s)
        if not self.is_tls:
            return connection
        try:
            context = ssl.create_default_context()
            context.set_alpn_protocols(protocols)
            return context.wrap_socket(connection, server_hostname=self.host)
        except BaseException:
            connection.close()
            raise


def offers_http2(address: Address, *, within_s: float) -> bool:
    """True where a browser would speak HTTP/2 here, which browsers do with TLS only.

    Raises:
        OSError: No connection, as `Address.connect`.
    """
    with address.connect(["h2", "http/1.1"], within_s=within_s) as connection:
        return isinstance(connection, ssl.SSLSocket) and (
            connection.selected_alpn_protocol() == "h2"
        )


class Visit:
    """One request, and what comes back, as far as it has come. A context manager that leaves.

    Args:
        address: Where to ask.
        headers: Beside those that every visit has.
        method: HEAD asks for the head alone.
        compressed: True to take gzip, as browsers do.
        within_s: Seconds to connect.

    Raises:
        OSError: No connection, as `Address.connect`.
    """

    def __init__(
        self,
        address: Address,
        headers: Mapping[str, str],
        *,
        method: str = "GET",
        compressed: bool = True,
        within_s: float,
    ) -> None:
        self.status: int | None = None
        """``None`` until the head is here."""
        self.headers: Message = Message()
        self.body = b""
        """As far as it has come, without framing and compression."""
        self.ended = ""
        """``finished`` where the response says that it is whole, ``closed`` where only the
        connection ended, ``cut`` where more was to come. Empty while it goes on."""
        self.garbled = False
        """True where the response says that it is compressed and is not."""
        self.last_byte_s = time.monotonic()
        """When something of the body came last, or the request was sent."""
        self._raw = b""
        self._decode: Callable[[bytes], bytes] = bytes
        self._unframe: Callable[[bytes], bytes] = bytes
        self._has_body = method != "HEAD"
        self._connection = address.connect(["http/1.1"], within_s=within_s)
        sent = {
            "Host": address.authority,
            "Accept": "text/event-stream",
            "Accept-Encoding": "gzip" if compressed else "identity",
            "Cache-Control": "no-cache",
            "User-Agent": "flask-sse-doctor",
            **headers,
        }
        lines = [f"{method} {address.target} HTTP/1.1", *(f"{k}: {v}" for k, v in sent.items())]
        try:
            self._connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Visit:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave, as a closed tab does. Safe to repeat."""
        self._connection.close()

    def wait(self, condition: Callable[[], bool], *, within_s: float) -> bool:
        """Read until ``condition`` holds; False where it never did before the end, or in time."""
        deadline_s = time.monotonic() + within_s
        while not condition():
            left_s = deadline_s - time.monotonic()
            if self.ended or left_s <= 0 or not self._read(left_s):
                return condition()
        return True

    def wait_head(self, *, within_s: float) -> bool:
        """Read until the head is here."""
        return self.wait(lambda: self.status is not None, within_s=within_s)

    def _read(self, within_s: float) -> bool:
        self._connection.settimeout(within_s)
        try:
            data = self._connection.recv(_READ_BYTES)
        except TimeoutError:
            return False
        except OSError:  # a reset, or TLS that was cut
            self.ended = "cut"
            return True
        if data:
            before = len(self.body)
            self._take(data)
            if len(self.body) > before:  # the last chunk has nothing in it
                self.last_byte_s = time.monotonic()
        elif not self.ended:
            self.ended = "cut" if self._expects_more() else "closed"
        return True

    def _take(self, data: bytes) -> None:
        if self.status is None:
            data = self._take_heads(data)
        if data and self._has_body:
            try:
                self.body += self._decoded(self._unframe(data))
            except ValueError:
                self.ended = "cut"  # no chunk begins like that

    def _take_heads(self, data: bytes) -> bytes:
        """Read the head, and what comes before it; gives what is left for the body."""
        self._raw += data
        while not self.ended and _HEAD_END in self._raw:
            head, _, self._raw = self._raw.partition(_HEAD_END)
            self._take_head(head)
            if self.status is not None:
                rest, self._raw = self._raw, b""
                return rest
        return b""

    def _take_head(self, head: bytes) -> None:
        first, _, rest = head.partition(b"\r\n")
        words = first.split()
        if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():  # noqa: PLR2004
            self.ended = "cut"  # that is no web server
            return
        if int(words[1]) < _FIRST_FINAL_STATUS:
            return  # Early Hints, and the like
        self.headers = http.client.parse_headers(io.BytesIO(rest + _HEAD_END))
        self.status = int(words[1])
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            self._unframe = _Chunks(self._finish).take
        elif self.headers.get("Content-Length", "").isdigit():
            self._unframe = _Counted(int(self.headers["Content-Length"]), self._finish).take
        if self.headers.get("Content-Encoding", "").lower() == "gzip":
            self._decode = zlib.decompressobj(_GZIP).decompress

    def _decoded(self, data: bytes) -> bytes:
        if self.garbled:
            return data
        try:
            return self._decode(data)
        except zlib.error:
            self.garbled = True
            return data

    def _expects_more(self) -> bool:
        return self.status is None or self._unframe is not bytes

    def _finish(self) -> None:
        self.ended = "finished"


class _Chunks:
    """The framing of RFC 9112, 7.1."""

    def __init__(self, finish: Callable[[], object]) -> None:
        self._finish = finish
        self._raw = b""
        self._left = 0
        """Bytes of the chunk that are still to come, with the line end after it."""

    def take(self, data: bytes) -> bytes:
        """What is in ``data`` without the marks of chunks."""
        self._raw += data
        out = []
        while self._raw:
            if self._left == 0:
                line, mark, rest = self._raw.partition(b"\r\n")
                if not mark:
                    break
                self._raw = rest
                size = int(line.partition(b";")[0], 16)
                self._left = size + 2
                if size == 0:
                    self._finish()
                    break
            piece, self._raw = self._raw[: self._left], self._raw[self._left :]
            # The last two bytes of each chunk are its line end.
            out.append(piece[: max(0, self._left - 2)])
            self._left -= len(piece)
        return b"".join(out)


class _Counted:
    """A body whose length was said before."""

    def __init__(self, length: int, finish: Callable[[], object]) -> None:
        self._finish = finish
        self._left = length

    def take(self, data: bytes) -> bytes:
        """``data``, up to the length."""
        taken = data[: self._left]
        self._left -= len(taken)
        if self._left == 0:
            self._finish()
        return taken
