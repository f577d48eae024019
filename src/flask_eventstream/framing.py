"""The response head that a WSGI server wrote, made the head of an event stream, and its framing.

A server frames its response for an ordinary answer: a length, chunks, keep-alive. All headers but
those of the framing stay as they are: cookies, `after_request` headers, what middleware added. But
an encoding goes, too: middleware that compresses has compressed the server's own empty body.

An event stream is framed in one of two ways. In *chunks* (RFC 9112, 7.1), one a write, where both
sides speak HTTP/1.1: a client then hands each event out as it comes, and can tell a stream that
ended from one that was cut. Else by *the end of the connection* (RFC 9112, 6.3), which every client
understands; but some wait until a buffer is full: ``requests`` for 128 bytes, so that a short event
waited 68 s for heartbeats that came every 2 s.
"""

from __future__ import annotations

__all__ = ["HEAD_END", "LAST_CHUNK", "encode_chunk", "rewrite_head", "says_http_1_1", "status_of"]

HEAD_END = b"\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

_FRAMING = frozenset(
    {b"connection", b"keep-alive", b"transfer-encoding", b"content-length", b"content-encoding"}
)


def rewrite_head(head: bytes, *, chunked: bool = False) -> bytes:
    """``head``, without the blank line that ends it, with the framing of an event stream.

    Returns the head with its blank line.
    """
    lines = head.split(b"\r\n")
    kept = [line for line in lines if line.split(b":", 1)[0].strip().lower() not in _FRAMING]
    if chunked:
        kept.append(b"Transfer-Encoding: chunked")
    return b"\r\n".join([*kept, b"Connection: close", b"", b""])


def says_http_1_1(head: bytes) -> bool:
    """True where the server answers in HTTP/1.1. A chunk in an HTTP/1.0 answer would be data."""
    return head.startswith(b"HTTP/1.1 ")


def encode_chunk(data: bytes) -> bytes:
    """One chunk; ``data`` must not be empty, for an empty chunk is the last one."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def status_of(head: bytes) -> int:
    """The status code of a head; 0 where it has none."""
    words = head.split(b" ", 2)
    code = words[1][:3] if len(words) > 1 else b""
    return int(code) if code.isdigit() else 0
