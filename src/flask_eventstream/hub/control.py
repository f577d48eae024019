"""Control entries: what other processes order, and the streams of a hub that end by it.

While a hub has streams it reads the control channel as any reader reads a channel, through
bring_live.py. So whatever was ordered while the broker was away is made up for.

**No stream slips through.** An order ends the streams whose right to read was decided before it:
also those that are on their way here while it comes. So a request notes the moment before the
decision (deciding.py), and orders that were heard since then are kept. Where nobody can tell what
was ordered since that moment, the stream ends, and its reader is asked again: a reconnect too many
costs little, a stream too many is somebody's secret.

Belongs to the hub's loop.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence

from flask_eventstream.access.orders import Order
from flask_eventstream.brokers import Broker, HasControl
from flask_eventstream.errors import EndReason
from flask_eventstream.event import encode_retry
from flask_eventstream.hub.bring_live import BringLive
from flask_eventstream.hub.request import Reader
from flask_eventstream.hub.stream import Stream
from flask_eventstream.log.entries import CONTROL_CHANNEL, Entry, Missed, Replay

__all__ = ["Control"]

_LOGGER = logging.getLogger("flask_eventstream")

#: Whose stream was ended comes back within this time, spread evenly, and is asked again.
_RETURN_MS = 1000

#: Seconds after which a client that takes nothing is cut: it would otherwise keep its connection,
#: and what waits for it, for as long as it likes.
_PATIENCE_S = 0.5

#: Seconds between two tries to read the control channel after a defect.
_AGAIN_S = 1.0

#: Orders that are kept for streams on their way here. More came meanwhile: those are asked again.
_KEPT = 1000


class Control:
    """Obeys orders in one hub. It is a `Newcomer` of the control channel itself.

    Args:
        loop: The hub's.
        broker: Where orders come from, if it can have any.
        bring_live: Brings it to live.
        streams: All streams of the hub, of now, and what they read.
        read: Channels that somebody reads here.
        random: A number from 0 to 1, to spread reconnects.
        clock: The machine's monotonic clock, by which decisions are noted.
    """

    channels: tuple[str, ...] = (CONTROL_CHANNEL,)

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        broker: Broker,
        bring_live: BringLive,
        *,
        streams: Mapping[Stream, Sequence[str]],
        read: Container[str],
        random: Callable[[], float],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._loop = loop
        self._can_hear = isinstance(broker, HasControl)
        self._bring_live = bring_live
        self._streams = streams
        self._read = read
        self._random = random
        self._clock = clock
        self._of_subject: dict[str, dict[Stream, None]] = {}
        self._heard: deque[tuple[float, Order]] = deque()
        self._known_since_s: float | None = None
        """The moment since which every order was heard; ``None`` until that is known."""
        self._task: asyncio.Task[None] | None = None
        self.live = False
        """True while every order is heard as it comes."""

    # ---- what the hub says

    def adopted(self, stream: Stream) -> None:
        """A stream came. If it was disconnected on its way, it ends now."""
        reader, channels = stream.reader, self._streams[stream]
        if reader.subject is not None:
            self._of_subject.setdefault(reader.subject, {})[stream] = None
        if self._task is None and self._can_hear and (channels or reader.subject is not None):
            self._begin(reader)
        decided_s, known_since_s = reader.decided_at_s, self._known_since_s
        if decided_s is None or known_since_s is None:
            return  # everybody may read, or `go_live` looks at it
        if decided_s < known_since_s or self._was_ordered(reader.subject, channels, decided_s):
            self._end([stream])

    def lost(self, stream: Stream) -> None:
        """A stream is gone."""
        subject = stream.reader.subject
        if subject is not None:
            streams = self._of_subject[subject]
            del streams[stream]
            if not streams:
                del self._of_subject[subject]

    def deliver(self, entry: Entry) -> None:
        """A control entry came. Until this is live bring_live.py holds it."""
        if self.live:
            self._obey(entry)

    def interrupted(self, channels: Collection[str] | None) -> None:
        """Entries of these channels (``None``: of all) are gone."""
        if self.live and (channels is None or CONTROL_CHANNEL in channels):
            self._doubt()

    def rest(self) -> None:
        """The hub stops listening."""
        if self._task is not None:
            self._task.cancel()
            self._task = None
        self.live = False
        self._heard.clear()
        self._known_since_s = None

    # ---- what brings it to live

    def kept_waiting(self) -> None:
        """The broker is away. Nobody can have ordered anything either, or it is made up for."""

    def give(self, page: Replay) -> None:
        """What was ordered before this was live."""
        if page.gone:
            self._doubt()
        for entry in page.entries:
            self._obey(entry)

    async def ready(self) -> bool:
        """It has no client that could be slow."""
        return True

    def go_live(self, held: Sequence[Entry]) -> None:
        """From here on every order is heard as it comes."""
        for entry in held:
            self._obey(entry)
        self.live = True
        if self._known_since_s is None:
            self._known_since_s = now_s = self._clock()
            self._end(s for s in self._streams if (s.reader.decided_at_s or now_s) < now_s)

    def _begin(self, reader: Reader) -> None:
        if reader.control_position is not None:
            self._known_since_s = reader.decided_at_s
        self._task = self._loop.create_task(self._follow(reader.control_position))

    async def _follow(self, after: str | None) -> None:
        while True:
            try:
                await self._bring_live.bring(self, after=after, standing=Missed())
            except Exception:
                _LOGGER.exception("Reading control entries met a defect, and begins again")
                await asyncio.sleep(_AGAIN_S)
            else:
                return

    # ---- orders

    def _obey(self, entry: Entry) -> None:
        # What has no place in the log was published beside it: nobody would hear it again.
        order = Order.decode(entry.event.data) if entry.event and entry.position else None
        if order is None:
            return
        self._heard.append((self._clock(), order))
        if len(self._heard) > _KEPT and self._known_since_s is not None:
            self._known_since_s = max(self._known_since_s, self._heard.popleft()[0])
        streams: Iterable[Stream] = ()
        if order.subject is not None:
            streams = self._of_subject.get(order.subject, ())
        elif order.channel in self._read:
            streams = self._streams
        channel = order.channel
        self._end(s for s in streams if channel is None or channel in self._streams[s])

    def _was_ordered(
        self, subject: str | None, channels: Collection[str], decided_s: float
    ) -> bool:
        for heard_s, order in reversed(self._heard):
            if heard_s < decided_s:
                return False
            if order.subject in (None, subject) and (
                order.channel is None or order.channel in channels
            ):
                return True
        return False

    def _doubt(self) -> None:
        """Orders may be lost: all of whom somebody decided are asked again."""
        self._known_since_s = self._clock()
        self._heard.clear()
        doubtful = [
            stream
            for stream in self._streams
            if stream.reader.subject is not None or stream.reader.decided_at_s is not None
        ]
        if doubtful:
            _LOGGER.info("Orders may be lost: %d streams end, and are asked again", len(doubtful))
        self._end(doubtful)

    def _end(self, streams: Iterable[Stream]) -> None:
        ended = [stream for stream in streams if stream.reason is None]
        for stream in ended:
            if stream.paused:
                stream.cut(EndReason.DISCONNECTED)
                continue
            retry = encode_retry(int(_RETURN_MS * self._random()))
            if stream.opened:
                stream.end(EndReason.DISCONNECTED, retry)
            else:  # its head has not left: a client that gets none would take it for an error
                stream.ending = EndReason.DISCONNECTED, retry
        if ended:
            self._loop.call_later(_PATIENCE_S, _abandon, ended)


def _abandon(streams: Iterable[Stream]) -> None:
    for stream in streams:
        stream.cut(EndReason.DISCONNECTED)  # one whose head did not come
        stream.abandon()
