"""One HTTP/1 response, read from bytes that arrive in pieces of any size (RFC 9112). No socket."""

from __future__ import annotations

__all__ = ["HttpResponse"]

HEAD_END = b"\r\n\r\n"
LINE_END = b"\r\n"
# Far above any head that a test makes; a server that never ends its head fails here.
MAX_HEAD_BYTES = 1_000_000
NO_CONTENT = 204
NOT_MODIFIED = 304
FIRST_FINAL_STATUS = 200


class HttpResponse:
    """The response to a GET. Belongs to the thread that feeds it.

    Attributes:
        head: the bytes of status line and headers with the blank line, empty until they are there.
        status: the status code, 0 until the head is there.
        headers: names in lower case; the values of a repeated header are joined with ", ".
        complete: the response ended as it announced: its length was reached, or its last chunk
            came, or the connection was closed when nothing but that marks the end.
    """

    __slots__ = ("_buffer", "_chunked", "_left", "complete", "head", "headers", "status")

    def __init__(self) -> None:
        self.head = b""
        self.status = 0
        self.headers: dict[str, str] = {}
        self.complete = False
        self._buffer = b""
        self._chunked = False
        # Bytes to come of the body, or of the chunk with its CRLF; None without a known length.
        self._left: int | None = None

    def feed(self, received: bytes) -> bytes:
        """Read the next bytes and give the bytes of the body among them, unframed."""
        self._buffer += received
        if not self.head and not self._read_head():
            return b""
        return self._chunks() if self._chunked else self._plain()

    def feed_eof(self) -> None:
        """Note that the peer closed the connection."""
        if self.head and not self._chunked and self._left is None:
            self.complete = True

    def _read_head(self) -> bool:
        while HEAD_END in self._buffer:
            head, self._buffer = self._buffer.split(HEAD_END, 1)
            status_line, *lines = head.decode("latin-1").split("\r\n")
            status = int(status_line.split(" ", 2)[1])
            if status < FIRST_FINAL_STATUS:
                continue
            self.head = head + HEAD_END
            self.status = status
            self._read_headers(lines)
            return True
        if len(self._buffer) > MAX_HEAD_BYTES:
            raise AssertionError(f"no end of the response head in {len(self._buffer)} bytes")
        return False

    def _read_headers(self, lines: list[str]) -> None:
        for line in lines:
            name, _, value = line.partition(":")
            known = self.headers.get(name.lower())
            self.headers[name.lower()] = (
                value.strip() if known is None else f"{known}, {value.strip()}"
            )
        if self.status in {NO_CONTENT, NOT_MODIFIED}:
            self._left = 0
        elif self.headers.get("transfer-encoding", "").lower() == "chunked":
            self._chunked = True
        elif "content-length" in self.headers:
            self._left = int(self.headers["content-length"])

    def _plain(self) -> bytes:
        body, self._buffer = self._buffer, b""
        if self._left is None:
            return body
        body = body[: self._left]
        self._left -= len(body)
        self.complete = self._left == 0
        return body

    def _chunks(self) -> bytes:
        body: list[bytes] = []
        while not self.complete:
            if self._left is None:
                if LINE_END not in self._buffer:
                    break
                size, self._buffer = self._buffer.split(LINE_END, 1)
                length = int(size.split(b";")[0], 16)
                if length == 0:
                    # Trailers are not read: no server here sends any.
                    self.complete = True
                    break
                self._left = length + len(LINE_END)
            taken, self._buffer = self._buffer[: self._left], self._buffer[self._left :]
            if not taken:
                break
            # The last two bytes that a chunk owes are its CRLF, not data; they may come apart.
            after = self._left - len(taken)
            body.append(taken[: max(0, self._left - len(LINE_END))])
            self._left = after or None
        return b"".join(body)
