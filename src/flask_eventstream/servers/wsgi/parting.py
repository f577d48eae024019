"""The body of a response whose client was taken away: empty, and in its end lies the hand-over.

A server that wrote its whole response before it closes the body has put the head into our sink by
then. So the hub gets the stream with its head in one call, and is woken once and not three times:
each time costs the worker's thread its turn at the interpreter lock. Of a stream's opening on a
gunicorn sync worker that took a tenth.
"""

from __future__ import annotations

import _socket
from collections.abc import Callable, Iterator

from flask_eventstream.framing import HEAD_END

__all__ = ["Parting"]

_PEEK_BYTES = 64 * 1024


class Parting:
    """An empty body.

    Args:
        sink: Where the server's response arrives.
        give: Called once, with the head, without the blank line that ends it; with ``b""`` where
            the head is not, or not whole, in the sink by then. Then the hub waits for it.
    """

    def __init__(self, sink: _socket.socket, give: Callable[[bytes], object]) -> None:
        self._sink = sink
        self._give: Callable[[bytes], object] | None = give

    def __iter__(self) -> Iterator[bytes]:
        return iter(())

    def close(self) -> None:
        """Called by the server when it wrote its response. Safe to repeat."""
        give, self._give = self._give, None
        if give is not None:
            give(self._head())

    # Middleware may forget to close what it got; the stream must be opened all the same.
    __del__ = close

    def _head(self) -> bytes:
        try:
            written = self._sink.recv(_PEEK_BYTES, _socket.MSG_PEEK)
        except OSError:  # nothing yet
            return b""
        head, end, _ = written.partition(HEAD_END)
        if not end:
            return b""
        self._sink.close()
        return head
