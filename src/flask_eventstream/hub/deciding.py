"""The moment before a decision, which a request notes.

So no order is missed between its right and its stream; control.py says how.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

from flask_eventstream.access.orders import BEGIN
from flask_eventstream.brokers import Broker, HasControl
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.log.entries import CONTROL_CHANNEL, UpToDate
from flask_eventstream.process import Lock, in_forked_child

__all__ = ["Deciding", "Decision"]

#: Seconds for which requests share a position: those of a page, or of a stampede.
_SHARED_S = 2.0


class Decision(NamedTuple):
    """The moment before it was decided that a reader may have a stream, or a little earlier."""

    at_s: float
    """By the machine's monotonic clock."""
    position: str | None = None
    """Where the control entries stood then; ``None`` where a hub hears them, or nobody knows."""


class Deciding:
    """Notes such moments, for one application in this process. Any thread.

    Args:
        broker: Where control entries are, if it can have any.
        clock: The machine's monotonic clock.
    """

    def __init__(self, broker: Broker, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._broker = broker
        self._clock = clock
        self._lock = Lock()
        self._shared: Decision | None = None
        in_forked_child(self._begin_anew)

    def begin(self, *, hears: bool) -> Decision:
        """This moment.

        Args:
            hears: True where a hub of this process hears control entries now. Else the broker is
                asked, every two seconds at the most.
        """
        if hears:
            return Decision(self._clock())
        shared = self._shared
        if shared is None or shared.at_s < self._clock() - _SHARED_S:
            mine = Decision(self._clock(), self._position())
            with self._lock:
                # Of requests that ask together all note the first: a hub begins there, and
                # would know nothing of what was ordered before a later one.
                if self._shared is shared:
                    self._shared = mine
                shared = self._shared
        return shared or Decision(self._clock())

    def _position(self) -> str | None:
        if not isinstance(self._broker, HasControl):
            return None
        try:
            standing = self._broker.arrive((CONTROL_CHANNEL,), None)
            if isinstance(standing, UpToDate):
                return standing.page.position
            # There is no log yet, and nobody could say what will be first in it.
            return self._broker.control(BEGIN)
        except BrokerUnavailable:
            return None

    def _begin_anew(self) -> None:
        self._lock = Lock()
        self._shared = None
