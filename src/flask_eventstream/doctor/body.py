"""The body of an answer, as far as it came: decoded, searched, and never kept.

A server may send without end, and a kilobyte of gzip may be a megabyte of text. So text is decoded
in slices, and of what was looked through only so much is kept as what is looked for may begin with.
"""

from __future__ import annotations

import zlib
from typing import Any

__all__ = ["Body"]

#: zlib's way to say: gzip, with the largest window.
_GZIP = 16 + zlib.MAX_WBITS

_SLICE_BYTES = 64 * 1024

#: What may lie there while nothing is looked for. A stream's beginning has some dozen bytes.
_MOST_BYTES = 64 * 1024

#: Of what stood before the thing that was found.
_BEFORE_BYTES = 256


class Body:
    """What came of a body."""

    def __init__(self) -> None:
        self.garbled = False
        """True where the body is not what its head says, or in an encoding nobody asked for."""
        self.before = b""
        """What stood right before the last thing that was found: 256 bytes at the most."""
        self._unzip: Any = None
        # As if a line had ended there: the first line is found as each other is.
        self._unread = b"\n"
        self._wanted = b""
        self._found = False

    def begin(self, encoding: str) -> None:
        """The head is here, and says that the body is encoded so; empty is plain text."""
        self.garbled = encoding not in ("", "identity", "gzip")
        self._unzip = zlib.decompressobj(_GZIP) if encoding == "gzip" else None

    def take(self, data: bytes) -> bool:
        """Take what came; True where there was something in it."""
        if self._unzip is None or self.garbled:
            return self._add(data)
        some = False
        while data and not self._unzip.eof:
            try:
                piece = self._unzip.decompress(data, _SLICE_BYTES)
            except zlib.error:
                self.garbled = True
                return self._add(data)
            some = self._add(piece) or some
            data = self._unzip.unconsumed_tail
        return some

    def want(self, text: bytes) -> None:
        """Look for ``text`` from now on, after what was found last."""
        self._wanted, self._found = text, False
        self._look()

    @property
    def found(self) -> bool:
        """True when it came."""
        return self._found

    def _add(self, data: bytes) -> bool:
        self._unread += data
        self._look()
        return bool(data)

    def _look(self) -> None:
        if self._found or not self._wanted:
            self._unread = self._unread[-_MOST_BYTES:]
            return
        at = self._unread.find(self._wanted)
        if at < 0:
            self._unread = self._unread[-_BEFORE_BYTES - len(self._wanted) :]
            return
        self._found = True
        self.before = self._unread[max(0, at - _BEFORE_BYTES) : at]
        # A line's end is the next line's beginning.
        self._unread = self._unread[at + len(self._wanted.rstrip(b"\n")) :]
