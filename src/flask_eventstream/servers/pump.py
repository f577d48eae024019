"""The pump: an application's own iterable on a thread of its own, feeding one stream.

The hub must never run an application's code, which may wait or raise; and the server's thread is to
be free. Between the pump and the hub is a socket pair, which is the back-pressure, too.
"""

from __future__ import annotations

import _socket
import contextlib
import logging
import random
import socket
from collections.abc import Callable, Iterable, Mapping

from flask_eventstream.event import Event, encode_retry
from flask_eventstream.hub.feed import FEED_FAILED, FEED_OPEN
from flask_eventstream.process import start_app_thread

__all__ = ["Pump", "check_source", "close_source", "is_framed", "raw_socket"]

_LOGGER = logging.getLogger("flask_eventstream")


#: Seconds, and as much again at random, until the client of an iterable that raised comes back.
_FAILED_S = 10.0

_FIELDS = ("data:", "event:", "id:", "retry:", ":")


class Pump:
    """Runs an application's iterable on a thread of its own and writes what it yields.

    The thread begins when the hub says so, which is when the request is over: an iterable that was
    lent the request's context must never share it (`flask.stream_with_context`). It waits while
    the client reads slowly, and ends soon after the client left: at the next thing that the
    iterable yields.
    """

    def __init__(self, source: Iterable[object], to_event: Callable[[object], Event]) -> None:
        self._source = source
        self._to_event = to_event
        self._started = False
        try:
            ours, self._socket = socket.socketpair()
        except OSError:
            close_source(source)
            raise
        self._socket.settimeout(None)  # whatever socket.setdefaulttimeout was told
        self.hub_end = raw_socket(ours)

    def start(self) -> None:
        """Start the thread. It waits for the hub's word.

        Raises:
            RuntimeError: The system can't start another thread.
        """
        start_app_thread(self.run)
        self._started = True

    def run(self) -> None:
        """The thread."""
        try:
            try:
                if self._may_begin():
                    for item in self._source:
                        if not self._send(self._to_event(item).encode()):
                            break
            finally:
                close_source(self._source)
        except Exception:
            # Its client would start it again at once, and it would perhaps fail again.
            patience_s = _FAILED_S * (1 + random.random())  # noqa: S311  a spread
            self._send(encode_retry(int(patience_s * 1000)) + FEED_FAILED)
            _LOGGER.exception("The iterable behind an event stream raised; the stream ends")
        finally:
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()

    def cancel(self) -> None:
        """It was never started, and will not be."""
        self._socket.close()
        close_source(self._source)

    def stop(self) -> None:
        """The hub did not get it: end it, whether it was started or not."""
        self.hub_end.close()
        if not self._started:
            self.cancel()

    def _may_begin(self) -> bool:
        try:
            return bool(self._socket.recv(len(FEED_OPEN)))
        except OSError:
            return False  # the stream was refused

    def _send(self, frame: bytes) -> bool:
        try:
            self._socket.sendall(frame)
        except OSError:
            return False  # nobody reads the stream any more
        return True


def check_source(source: object) -> None:
    """Refuse what could not be run as an iterable of events, while its view can still be told.

    Raises:
        TypeError: It says what to give instead.
    """
    kind = type(source).__name__
    if isinstance(source, str | bytes | bytearray | memoryview | Mapping | Event):
        what = f"{kind} is one thing, and not an iterable of events: give a list of one"
    elif hasattr(source, "__aiter__"):
        what = f"{kind} is asynchronous, and runs on no thread: give a generator made with `def`"
    elif not (hasattr(source, "__iter__") or hasattr(source, "__getitem__")):
        what = f"{kind} is no iterable: give a generator, or a list of events"
    elif isinstance(source, list | tuple) and any(isinstance(item, bytes) for item in source):
        what = f"{kind} has bytes in it, and an event stream is text: decode() them"
    else:
        return
    raise TypeError(f"an event stream can't be made of this: {what}")


def is_framed(text: str) -> bool:
    """True for text that was made an event's frame already, as for a hand-made stream."""
    return text.startswith(_FIELDS) and text.endswith("\n\n")


def close_source(source: object) -> None:
    """Close an iterable that can be closed."""
    close = getattr(source, "close", None)
    if close is not None:
        close()


def raw_socket(sock: socket.socket) -> _socket.socket:
    """The C socket behind Python's, which is not patched and which the hub's loop takes."""
    raw = _socket.socket(fileno=sock.detach())
    raw.settimeout(0)
    return raw
