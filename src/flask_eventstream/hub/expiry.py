"""The end of a right to read: whose time is over gets ``stream-expired``, and its stream ends.

A right ends by the calendar, and calendars jump. So its end is looked up once, when the stream
comes; from then on the loop's clock counts, which does not.

Belongs to the hub's loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from flask_eventstream.errors import EndReason
from flask_eventstream.event import STREAM_EXPIRED, encode_farewell, encode_retry
from flask_eventstream.hub.stream import Stream

__all__ = ["Expiry"]

#: Timers count no further than some weeks; a stream that lives for longer is looked at again.
_FAR_S = 86_400.0

#: Loops ring by their clock's resolution, a little early that is.
_EARLY_S = 0.05

#: Streams whose right ends at one moment, midnight say, come back within this time to be asked.
_RETURN_MS = 1000

#: Seconds after which a client that takes nothing is cut, with what waits for it.
_PATIENCE_S = 0.5


class Expiry:
    """The clock of the rights of one hub's streams.

    Args:
        loop: The hub's.
        streams: All streams of the hub, of now, and what they read.
        random: A number from 0 to 1, to spread reconnects.
        now: The calendar: seconds since 1970.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        streams: Mapping[Stream, Sequence[str]],
        random: Callable[[], float],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._loop = loop
        self._streams = streams
        self._random = random
        self._now = now
        self._timers: dict[Stream, asyncio.TimerHandle] = {}

    def adopted(self, stream: Stream) -> None:
        """A stream came; perhaps its right ends one day."""
        expires_at = stream.reader.expires_at
        if expires_at is not None:
            self._wait(stream, self._loop.time() + max(expires_at - self._now(), 0.0))

    def lost(self, stream: Stream) -> None:
        """A stream is gone."""
        timer = self._timers.pop(stream, None)
        if timer is not None:
            timer.cancel()

    def _wait(self, stream: Stream, end_s: float) -> None:
        look_s = min(end_s, self._loop.time() + _FAR_S)
        self._timers[stream] = self._loop.call_at(look_s, self._look, stream, end_s)

    def _look(self, stream: Stream, end_s: float) -> None:
        del self._timers[stream]
        if end_s - self._loop.time() > _EARLY_S:
            self._wait(stream, end_s)
        elif stream.reason is None:
            self._end(stream)

    def _end(self, stream: Stream) -> None:
        if not stream.opened:  # its head is not written: nothing could be said
            stream.cut(EndReason.EXPIRED)
            return
        farewell = encode_retry(int(_RETURN_MS * self._random()))
        if stream.feed is None:  # an iterable's may be in the middle of an event
            farewell += encode_farewell(STREAM_EXPIRED, self._streams[stream])
        stream.end(EndReason.EXPIRED, farewell)
        self._loop.call_later(_PATIENCE_S, stream.abandon)
