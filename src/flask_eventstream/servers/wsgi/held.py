"""The way out where no connection can be had: a thread of the server's passes the stream on."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from flask_eventstream.hub.admission import Admission
from flask_eventstream.servers.pump import Pump, raw_socket

__all__ = ["Held"]

_READ_BYTES = 64 * 1024


class Held:
    """The body of a held response: what the hub writes into the other end of a socket pair.

    The thread that was counted for it is free again when it is closed, or over, or when nobody has
    it any more: middleware may forget to close what it got.
    """

    def __init__(self, admission: Admission) -> None:
        self._closed = True  # as far as `__del__` is concerned, until there is something to close
        # Python's own sockets, so that a greenlet waits for it as greenlets do.
        ours, self._socket = socket.socketpair()
        self._closed = False
        self._socket.settimeout(None)  # whatever socket.setdefaulttimeout was told
        self.hub_end = raw_socket(ours)
        self.pump: Pump | None = None
        """Started when the server asks for the body."""
        self._admission = admission

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self.pump is not None:
            # The server asks for the body when the request is over.
            pump, self.pump = self.pump, None
            pump.start()
        data = b"" if self._closed else self._socket.recv(_READ_BYTES)
        if not data:
            self.close()
            raise StopIteration
        return data

    def close(self) -> None:
        """The client left, or the stream ended. Safe to repeat."""
        if not self._closed:
            self._closed = True
            if self.pump is not None:
                self.pump.cancel()
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
            self._admission.free_thread()

    __del__ = close
