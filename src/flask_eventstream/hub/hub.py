"""The hub: every stream of one application on one loop.

It encodes nothing twice, waits for no client, and asks the broker for nothing that another stream
already has: one group of streams per set of channels, one splice per channel.

Everything here belongs to the loop. No ``await`` stands between looking at a table and changing it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from flask_eventstream.brokers import Broker, Listener
from flask_eventstream.config import Config
from flask_eventstream.errors import EndReason
from flask_eventstream.event import RESET, encode_channels_event
from flask_eventstream.hub.admission import Admission, Refusal
from flask_eventstream.hub.adoption import Adoption
from flask_eventstream.hub.bring_live import BringLive
from flask_eventstream.hub.catchup import CatchUp
from flask_eventstream.hub.clients import Clients
from flask_eventstream.hub.clockwork import Clockwork
from flask_eventstream.hub.control import Control
from flask_eventstream.hub.expiry import Expiry
from flask_eventstream.hub.fanout import FanOut
from flask_eventstream.hub.groups import Group, Groups
from flask_eventstream.hub.observer import Observer
from flask_eventstream.hub.opening import Opening
from flask_eventstream.hub.shared_pages import SharedPages
from flask_eventstream.hub.stream import Stream
from flask_eventstream.log.entries import Entry, Kind

__all__ = ["Hub", "Stats", "sum_stats"]

#: Looked up once: as an attribute of its enumeration each costs 40 ns per entry.
_CONTROL = Kind.CONTROL

_LOGGER = logging.getLogger("flask_eventstream")


@dataclass(frozen=True, slots=True)
class Stats:
    """What an application's hubs do in this process, at one moment."""

    streams: int = 0
    """Open streams."""
    opened: int = 0
    """Streams adopted so far."""
    deliveries: int = 0
    """Writes of events to streams so far."""
    ended: Mapping[str, int] = field(default_factory=dict)
    """How many streams ended so far, by `EndReason` value."""
    refused: Mapping[str, int] = field(default_factory=dict)
    """How many readers were sent away so far, by `Refusal` value."""


def sum_stats(each: Iterable[Stats], refused: Mapping[str, int]) -> Stats:
    """The figures of several hubs together."""
    each = list(each)
    ended: Counter[str] = Counter()
    for stats in each:
        ended.update(stats.ended)
    return Stats(
        streams=sum(stats.streams for stats in each),
        opened=sum(stats.opened for stats in each),
        deliveries=sum(stats.deliveries for stats in each),
        ended=dict(ended),
        refused=refused,
    )


class Hub:
    """Adopts streams and gives each what its channels bring.

    Args:
        loop: Where all of it runs.
        broker: The log of events.
        config: Heartbeat, retry, lifetime and bounds.
        admission: Who may have a stream.
        random: A number from 0 to 1, to spread reconnects.
        released: Called with the descriptor of each client that is gone, before it is closed.
        observer: Told what happens to streams.
    """

    _listener: Listener | None = None
    _opened = 0
    _stopping = False

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        broker: Broker,
        config: Config,
        *,
        admission: Admission,
        random: Callable[[], float],
        released: Callable[[int], object],
        observer: Observer,
    ) -> None:
        self.loop = loop
        self._broker = broker
        self._admission = admission
        self._released = released
        self._observer = observer
        self._streams: dict[Stream, tuple[str, ...]] = {}
        self._sent_away: set[Stream] = set()
        self._groups = Groups()
        self._clients = Clients()
        self._readers: Counter[str] = Counter()
        self._fan_out = FanOut(loop, observer)
        self._pages = SharedPages(loop)
        self._bring_live = BringLive(loop, self._listening, self._pages)
        self._opening = Opening(
            loop, config, bring_live=self._bring_live, join=self._join, observer=observer
        )
        self._set_clocks(config, random)
        self._ended: Counter[str] = Counter()
        self._empty = asyncio.Event()
        self._empty.set()

    def _set_clocks(self, config: Config, random: Callable[[], float]) -> None:
        """Whatever ends streams by itself: an order, their age, the end of a right."""
        self._control = Control(
            self.loop,
            self._broker,
            self._bring_live,
            streams=self._streams,
            read=self._readers,
            random=random,
        )
        self._clockwork = Clockwork(
            self.loop,
            config,
            streams=self._streams,
            groups=self._groups,
            fan_out=self._fan_out,
            random=random,
            rest=self._rest,
        )
        self._expiry = Expiry(self.loop, streams=self._streams, random=random)

    def stats(self) -> Stats:
        """What the hub does now. Any thread may ask."""
        return Stats(
            streams=len(self._streams),
            opened=self._opened,
            deliveries=self._fan_out.deliveries,
            ended=dict(self._ended),
        )

    @property
    def hears(self) -> bool:
        """True while it hears what other processes order. Any thread may ask."""
        return self._control.live

    # ---- opening

    def adopt(self, adoption: Adoption) -> None:
        """Take a stream over and open it, or send its reader away."""
        request = adoption.request
        self._opened += 1
        stream = Stream(self, adoption)
        stream.ends_at_s = self._clockwork.end_of_life(request.lifetime_s)
        self._streams[stream] = request.channels
        self._clients.join(stream)
        # Counted here because `lost` takes it back, also of a stream that never got far.
        self._readers.update(request.channels)
        self._empty.clear()
        self._clockwork.start()
        self._expiry.adopted(stream)
        refusal = self._admit(stream)
        if not refusal:
            self._observer.opened(request.reader, request.channels)
        opening = self._opening.open(stream, adoption, refusal=refusal)
        stream.opening = self.loop.create_task(opening)
        self._control.adopted(stream)

    def _admit(self, stream: Stream) -> bytes:
        """Nothing for a reader that may stay, else what it is sent away with."""
        why = None
        if self._stopping:
            why, detail = Refusal.STOPPING, "the application is going down"
        elif full := self._admission.enter(stream.reader):
            why, detail = full
        if why is None:
            return b""
        self._sent_away.add(stream)
        self._observer.refused(stream.reader, why)
        return self._admission.refuse(why, detail)

    def _join(self, stream: Stream, catch_up: CatchUp) -> None:
        """Put a stream among the live ones: it has everything up to now."""
        channels = self._streams[stream]
        group = self._groups.get(channels)
        if group is None:
            group = Group(
                channels,
                ended=catch_up.ended,
                now_s=self.loop.time(),
                cursor=catch_up.cursor,
            )
            self._groups.add(group)
        else:
            # What the group is about to be given, the stream has got from the log.
            self._fan_out.seal(group)
            self._streams[stream] = group.channels
        group.join(stream)
        if group.over:
            stream.end(EndReason.ENDED)

    def _listening(self) -> Listener:
        if self._listener is None:
            self._listener = self._broker.listen(self.loop, self)
        return self._listener

    # ---- delivering: what the listener calls

    def deliver(self, entries: Sequence[Entry]) -> None:
        """Give new entries to whom they are for."""
        self._bring_live.hold(entries)
        for entry in entries:
            if entry.kind is _CONTROL:
                self._control.deliver(entry)
            else:
                for group in self._groups.of(entry.channel):
                    if entry.exclude is not None:
                        self._deliver_but(group, entry, entry.exclude)
                        continue
                    group.add(entry)
                    self._fan_out.ready(group)

    def _deliver_but(self, group: Group, entry: Entry, client_id: str) -> None:
        """Give an entry to all streams of a group but a client's own."""
        but = self._clients.within(group, client_id)
        if but:
            self._fan_out.seal(group)
        group.add(entry)
        if but:
            self._fan_out.seal(group, but=but)
        else:
            self._fan_out.ready(group)

    def interrupted(self, channels: Collection[str] | None, position: str) -> None:
        """Tell live readers of what is gone; let waiting ones read the log again."""
        self._bring_live.interrupt(channels)
        self._control.interrupted(channels)
        for group in self._groups:
            gone = [c for c in group.channels if channels is None or c in channels]
            if gone:
                group.frames.append(
                    encode_channels_event(RESET, gone, group.cursor.jump(gone, position))
                )
                group.ended.difference_update(gone)
                self._fan_out.ready(group)
                self._observer.reset(gone, len(group.streams))

    # ---- ending

    def lost(self, stream: Stream) -> None:
        """Forget a stream whose connection is closed."""
        channels = self._streams.pop(stream)
        self._control.lost(stream)
        self._clients.leave(stream)
        if stream in self._sent_away:
            self._sent_away.remove(stream)
        else:
            self._admission.leave(stream.reader)
        self._expiry.lost(stream)
        reason = stream.reason or EndReason.LOST
        self._ended[reason.value] += 1
        self._released(stream.fd)
        if stream.opening is not None:
            stream.opening.cancel()
        if channels:
            self._leave(stream, channels)
        if not self._streams:
            self._empty.set()
            self._clockwork.linger()
        self._observer.closed(stream.reader, channels, reason)
        _LOGGER.debug("A stream of %s ended: %s", channels, reason.value)

    def _leave(self, stream: Stream, channels: tuple[str, ...]) -> None:
        self._groups.leave(stream, channels)
        self._readers.subtract(channels)
        unread = [channel for channel in channels if self._readers[channel] <= 0]
        for channel in unread:
            del self._readers[channel]
        self._pages.forget(unread)
        if self._listener is not None and unread:
            self._listener.unsubscribe(unread)

    def _rest(self) -> None:
        """Nobody has come for a while: stop listening."""
        self._control.rest()
        if self._listener is not None:
            self._listener.stop()
            self._listener = None

    async def end_all(self, timeout_s: float) -> None:
        """Say goodbye to every stream, and wait until all are closed, or cut them.

        Whoever comes meanwhile is sent away. Afterwards the hub takes streams again.
        """
        await self.stop(timeout_s)
        self._stopping = False

    async def stop(self, timeout_s: float) -> None:
        """The same, for good."""
        self._stopping = True
        self._fan_out.finish()
        for stream in tuple(self._streams):
            if stream.opened:
                stream.end(EndReason.SHUTDOWN, self._admission.come_back())
            else:
                stream.cut(EndReason.SHUTDOWN)
        self._rest()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._empty.wait(), timeout_s)
        for stream in tuple(self._streams):
            stream.abandon()
