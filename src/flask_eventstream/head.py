"""The response head that a WSGI server wrote, made the head of an event stream.

A server frames its response for an ordinary answer: a length, chunks, keep-alive. An event
stream's body ends when its connection does (RFC 9112, 6.3, rule 8), which every server, proxy and
client understands, HTTP/1.0 and ``uwsgi_pass`` included. All other headers stay as they are:
cookies, `after_request` headers, what WSGI middleware added.
"""

from __future__ import annotations

__all__ = ["HEAD_END", "rewrite_head", "status_of"]

HEAD_END = b"\r\n\r\n"

_FRAMING = frozenset({b"connection", b"keep-alive", b"transfer-encoding", b"content-length"})


def rewrite_head(head: bytes) -> bytes:
    """``head``, without the blank line that ends it, with framing by the connection's end.

    Returns the head with its blank line.
    """
    lines = head.split(b"\r\n")
    kept = [line for line in lines if line.split(b":", 1)[0].strip().lower() not in _FRAMING]
    return b"\r\n".join([*kept, b"Connection: close", b"", b""])


def status_of(head: bytes) -> int:
    """The status code of a head; 0 where it has none."""
    words = head.split(b" ", 2)
    code = words[1][:3] if len(words) > 1 else b""
    return int(code) if code.isdigit() else 0
