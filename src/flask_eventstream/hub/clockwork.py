"""What a hub does by the clock: heartbeats, lifetimes, and resting when nobody reads.

Belongs to the hub's loop, whose time is the only one here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable

from flask_eventstream.config import Config
from flask_eventstream.errors import EndReason
from flask_eventstream.event import COMMENT, encode_retry
from flask_eventstream.hub.fanout import FanOut
from flask_eventstream.hub.groups import Group
from flask_eventstream.hub.stream import Stream

__all__ = ["Clockwork"]

#: The reading side of the broker outlives the last stream by this much: the gap between two page
#: loads of a lone user.
_LINGER_S = 5.0

#: The part of a heartbeat after which the hub looks who has been silent for too long. With a
#: quarter, a heartbeat came after three quarters of its time: a seventh more of them.
_TICK = 1 / 8

#: Streams that reach their lifetime come back within this time, spread evenly.
_RENEWAL_MS = 1000
_LIFETIME_SPREAD = 0.2


class Clockwork:
    """Runs while there are streams, and a little longer.

    Args:
        loop: The hub's.
        config: How long a heartbeat is.
        streams: All streams of the hub, of now.
        groups: The live ones, by what they read.
        fan_out: Writes to a group.
        random: A number from 0 to 1, to spread reconnects.
        rest: Called when there was no stream for a while.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: Config,
        *,
        streams: Collection[Stream],
        groups: Iterable[Group],
        fan_out: FanOut,
        random: Callable[[], float],
        rest: Callable[[], object],
    ) -> None:
        self._loop = loop
        self._tick_s = config.heartbeat_s * _TICK
        # A tick before it is due, because the next look is a tick later.
        self._silence_s = config.heartbeat_s - self._tick_s
        self._streams = streams
        self._groups = groups
        self._fan_out = fan_out
        self._random = random
        self._rest = rest
        self._next: asyncio.TimerHandle | None = None
        self._resting: asyncio.TimerHandle | None = None
        self._beat_waiting_at_s = loop.time()

    def start(self) -> None:
        """There is a stream."""
        if self._resting is not None:
            self._resting.cancel()
            self._resting = None
        if self._next is None:
            self._next = self._loop.call_later(self._tick_s, self._tick)

    def linger(self) -> None:
        """The last stream is gone; another may come at once."""
        self._resting = self._loop.call_later(_LINGER_S, self._begin_rest)

    def end_of_life(self, lifetime_s: float) -> float:
        """When a stream of this lifetime ends, on the loop's clock.

        Spread, so that streams that were opened together do not end together.
        """
        if not lifetime_s:
            return float("inf")
        return self._loop.time() + lifetime_s * (1 - _LIFETIME_SPREAD * self._random())

    def _begin_rest(self) -> None:
        self._resting = None
        if self._next is not None:
            self._next.cancel()
            self._next = None
        self._rest()

    def _tick(self) -> None:
        self._next = self._loop.call_later(self._tick_s, self._tick)
        now_s = self._loop.time()
        silent_since_s = now_s - self._silence_s
        beat_waiting = self._beat_waiting_at_s <= silent_since_s
        if beat_waiting:
            self._beat_waiting_at_s = now_s
        for group in self._groups:
            if group.wrote_at_s <= silent_since_s:
                group.frames.append(COMMENT)
                self._fan_out.ready(group)
        for stream in tuple(self._streams):
            if now_s >= stream.ends_at_s:
                stream.end(EndReason.AGE, encode_retry(int(_RENEWAL_MS * self._random())))
            elif stream.feed is not None:
                if stream.feed.wrote_at_s <= silent_since_s:
                    stream.feed.beat(now_s)
            elif beat_waiting and stream.opening and stream.opened and not stream.paused:
                stream.write(COMMENT)  # it waits for a broker that is away
