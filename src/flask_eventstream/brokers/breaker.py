"""Not waiting again and again for a server that does not answer.

A server that accepts and never answers (a firewall, a paused machine) costs each caller all of its
patience, and a site whose threads all wait for it is down with it. A breaker notes that somebody
waited in vain. Then callers are refused at once for a while. After it one of them at a time may
try, and shows whether the server is back.

Rules of this room: no clock but the one that is passed in, no socket, no lock around anything but
its own few lines.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

from flask_eventstream.process import Lock

__all__ = ["Breaker", "Leave"]


class Leave(enum.Enum):
    """What a breaker says to who wants to ask the server."""

    ASK = "ask"
    """It answered the last time."""
    TRY = "try"
    """It did not, a while ago: find out, with little patience, and say how it went."""
    REST = "rest"
    """It did not, a moment ago, or somebody is finding out: do without it."""


class Breaker:
    """One server's. Any thread may use it; a forked child makes one of its own.

    Args:
        rest_s: Seconds for which nobody is sent after one waited in vain.
        clock: Seconds that never go back.
    """

    def __init__(self, *, rest_s: float, clock: Callable[[], float]) -> None:
        self._rest_s = rest_s
        self._clock = clock
        self._lock = Lock()
        self._rests = self._tried = False
        self._until_s = 0.0

    def leave(self) -> Leave:
        """Whether to ask. After `Leave.TRY` the caller must tell how it went, whatever it was."""
        if not self._rests:
            return Leave.ASK
        with self._lock:
            if self._tried or self._clock() < self._until_s:
                return Leave.REST
            self._tried = True
            return Leave.TRY

    def answered(self) -> None:
        """The server answered, whatever it said."""
        if self._rests:
            with self._lock:
                self._rests = self._tried = False
                self._until_s = 0.0

    def silent(self) -> None:
        """The caller waited in vain, or gave up trying."""
        with self._lock:
            self._rests, self._tried = True, False
            self._until_s = self._clock() + self._rest_s
