"""The head that a server wrote, made the head of an event stream."""

from __future__ import annotations

import pytest

from flask_eventstream.framing import rewrite_head, status_of


def test_framing_becomes_the_connections_end() -> None:
    """Length, chunks and keep-alive go; the connection's end frames the body; the rest stays."""
    head = (
        b"HTTP/1.1 200 OK\r\nServer: x\r\nContent-Length: 0\r\nConnection: keep-alive\r\n"
        b"Keep-Alive: timeout=5\r\nTransfer-Encoding: chunked\r\nSet-Cookie: a=b: c\r\nDate: now"
    )

    assert rewrite_head(head) == (
        b"HTTP/1.1 200 OK\r\nServer: x\r\nSet-Cookie: a=b: c\r\nDate: now\r\n"
        b"Connection: close\r\n\r\n"
    )


@pytest.mark.parametrize(
    "line", [b"CONTENT-LENGTH:0", b"content-length : 0", b"connection:close", b"Connection:"]
)
def test_framing_is_known_however_it_is_written(line: bytes) -> None:
    """Header names are compared without case, and white space does not hide one."""
    assert rewrite_head(b"HTTP/1.1 200 OK\r\n" + line) == (
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
    )


def test_an_encoding_goes() -> None:
    """What middleware compressed was the server's own empty body."""
    assert rewrite_head(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nVary: x") == (
        b"HTTP/1.1 200 OK\r\nVary: x\r\nConnection: close\r\n\r\n"
    )


def test_headers_that_only_look_like_framing_stay() -> None:
    """A name that contains a framing header's is another header."""
    head = b"HTTP/1.1 200 OK\r\nX-Connection: a\r\nContent-Length-Hint: 5"

    assert rewrite_head(head) == head + b"\r\nConnection: close\r\n\r\n"


def test_repeated_headers_stay() -> None:
    """Two cookies are two headers, in their order."""
    head = b"HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nSet-Cookie: b"

    assert rewrite_head(head) == head + b"\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"HTTP/1.1 200 OK\r\nA: b", 200),
        (b"HTTP/1.0 204 No Content", 204),
        (b"HTTP/1.1 500 ", 500),
        (b"HTTP/1.1 200\r\nA: b", 200),
        (b"HTTP/1.1 xyz", 0),
        (b"HTTP/1.1", 0),
        (b"", 0),
    ],
)
def test_the_status_is_read(head: bytes, status: int) -> None:
    """The status code is the number of the first line; a head without one has 0."""
    assert status_of(head) == status
