"""The way out where no connection can be had: a thread of the server's passes the stream on."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

from flask_eventstream.servers.pump import Pump, raw_socket
from flask_eventstream.state import AppState

__all__ = ["Held"]

_READ_BYTES = 64 * 1024


class Held:
    """The body of a held response: what the hub writes into the other end of a socket pair."""

    def __init__(self, state: AppState, pump: Pump | None) -> None:
        # Python's own sockets, so that a greenlet waits for it as greenlets do.
        ours, self._socket = socket.socketpair()
        self._socket.settimeout(None)  # whatever socket.setdefaulttimeout was told
        self.hub_end = raw_socket(ours)
        self._state = state
        self._pump = pump
        self._closed = False

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._pump is not None:
            # The server asks for the body when the request is over.
            pump, self._pump = self._pump, None
            pump.start()
        data = self._socket.recv(_READ_BYTES)
        if not data:
            raise StopIteration
        return data

    def close(self) -> None:
        """The client left, or the stream ended."""
        if not self._closed:
            self._closed = True
            if self._pump is not None:
                self._pump.cancel()
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
            self._state.admission.free_thread()
