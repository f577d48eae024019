"""The memory broker: the log is this process's memory. The reference for what a broker does.

For tests, for one process, and for reading: what the other brokers do with files and servers
stands here in its plainest form. A second process can neither publish here nor read here.
"""

from __future__ import annotations

import asyncio
import bisect
import contextvars
import itertools
import secrets
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from flask_eventstream.brokers.broker import Inbox
from flask_eventstream.event import Event
from flask_eventstream.log.entries import (
    CONTROL_CHANNEL,
    PAGE,
    Entry,
    Kind,
    Missed,
    Replay,
    Retention,
    Standing,
    UpToDate,
    take_page,
    up_to_date,
)
from flask_eventstream.log.position import Position
from flask_eventstream.process import Lock, in_forked_child

__all__ = ["MemoryBroker"]

#: Every so many entries, channels without one for long are forgotten.
_FORGET_EVERY = 1024


@dataclass(slots=True)
class _Channel:
    """One channel's log. Guarded by the broker's lock."""

    entries: deque[tuple[float, Entry]] = field(default_factory=deque)
    """(when in seconds, entry), oldest first."""
    own: dict[str, tuple[int, bool]] = field(default_factory=dict)
    """For each own id among them its newest sequence, and whether it stood there before."""
    trimmed: int = 0
    """The greatest sequence that was removed."""
    ended: int = 0
    """The sequence of the end, 0 while the channel goes on."""
    touched_s: float = 0.0
    """When the last entry came."""

    def append(self, entry: Entry, now_s: float) -> None:
        """Take a new entry."""
        self.ended = entry.sequence if entry.kind is Kind.END else 0
        self.touched_s = now_s
        self.entries.append((now_s, entry))
        if entry.event and entry.event.id:
            self.own[entry.event.id] = (entry.sequence, entry.event.id in self.own)

    def trim(self, *, length: int, expired_s: float) -> None:
        """Remove what readers may not get any more."""
        while self.entries and (len(self.entries) > length or self.entries[0][0] < expired_s):
            removed = self.entries.popleft()[1]
            self.trimmed = removed.sequence
            own_id = removed.event.id if removed.event else None
            if own_id and self.own[own_id][0] == removed.sequence:
                del self.own[own_id]

    def newest(self, count: int) -> list[Entry]:
        """The last entries, oldest first: at most so many, and of a page's size."""
        newest = (entry for _, entry in reversed(self.entries))
        taken, _ = take_page(newest, lambda entry: len(entry.frame), most=count)
        return taken[::-1]

    def after(self, sequence: int) -> Iterator[Entry]:
        """The entries of a page, and one more."""
        first = bisect.bisect_right(self.entries, sequence, key=lambda item: item[1].sequence)
        return (entry for _, entry in itertools.islice(self.entries, first, first + PAGE + 1))


class _Shares:
    """What owners say of channels. One process is all there is, yet tests have many owners."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[float, dict[str, str]]] = {}

    def say(
        self, owner: str, changed: Mapping[str, str], *, now_s: float, for_s: float, whole: bool
    ) -> bool:
        """Take what an owner says. Where the rest of it is gone: False, and nothing is taken."""
        for dead in [name for name, (until_s, _) in self._of.items() if until_s <= now_s]:
            del self._of[dead]
        if not whole and owner not in self._of:
            return False
        texts = {**({} if whole else self._of[owner][1]), **changed}
        self._of[owner] = now_s + for_s, {name: text for name, text in texts.items() if text}
        return True

    def forget(self, owner: str) -> None:
        """An owner is gone."""
        self._of.pop(owner, None)

    def of(self, channel: str, *, now_s: float) -> list[str]:
        """What those who live say of a channel."""
        living = [texts for until_s, texts in self._of.values() if until_s > now_s]
        return [texts[channel] for texts in living if channel in texts]


class MemoryBroker:
    """A log in this process's memory. Threads may share it; processes can't."""

    is_shared = False

    def __init__(
        self, url: str, *, retention: Retention | None, clock: Callable[[], float] = time.time
    ) -> None:
        self.url = url
        self._retention = retention or Retention()
        self._clock = clock
        self._lock = Lock()
        self._epoch = secrets.token_hex(4)
        self._sequence = 0
        self._channels: dict[str, _Channel] = {}
        self._records: dict[str, tuple[float, str]] = {}
        self._shares = _Shares()
        self._floor = 0
        self._listeners: set[_MemoryListener] = set()
        # A child of a fork has neither the parent's loops nor, perhaps, the lock's owner.
        in_forked_child(self._begin_anew)

    def publish(self, channel: str, event: Event) -> str:
        """Append and wake. Any thread; waits for nothing but a lock held for microseconds."""
        return self._append(channel, event, Kind.EVENT)

    def publish_many(self, channel: str, events: Sequence[Event]) -> list[str]:
        """Append all of them."""
        return [self._append(channel, event, Kind.EVENT) for event in events]

    def publish_to(self, channels: Sequence[str], event: Event) -> list[str]:
        """Append it to all of them."""
        return [self._append(channel, event, Kind.EVENT) for channel in channels]

    def end(self, channel: str) -> None:
        """Append the channel's end."""
        self._append(channel, None, Kind.END)

    def control(self, text: str) -> str:
        """Append a control entry."""
        return self._append(CONTROL_CHANNEL, Event(text), Kind.CONTROL)

    def newest(self, channel: str, count: int) -> Sequence[Entry]:
        """The last entries of a channel."""
        with self._lock:
            log = self._channels.get(channel)
            if log is None:
                return ()
            self._trim(log)
            return log.newest(min(count, PAGE))

    def remember(self, name: str, text: str, *, for_s: float) -> None:
        """Keep a text, for as long as the process lives at the most."""
        now_s = self._clock()
        with self._lock:
            for old in [n for n, (until_s, _) in self._records.items() if until_s <= now_s]:
                del self._records[old]
            self._records[name] = (now_s + for_s, text)

    def recall(self, name: str) -> str | None:
        """The text of this name."""
        until_s, text = self._records.get(name, (0.0, ""))
        return text if self._clock() < until_s else None

    def share(
        self, owner: str, changed: Mapping[str, str], *, for_s: float, whole: bool = False
    ) -> bool:
        """Take what an owner says."""
        with self._lock:
            now_s = self._clock()
            return self._shares.say(owner, changed, now_s=now_s, for_s=for_s, whole=whole)

    def unshare(self, owner: str) -> None:
        """Take it away."""
        with self._lock:
            self._shares.forget(owner)

    def shares(self, channel: str) -> Sequence[str]:
        """What all owners say of a channel."""
        with self._lock:
            return self._shares.of(channel, now_s=self._clock())

    @property
    def sequence(self) -> int:
        """The sequence of the last entry."""
        return self._sequence

    def arrive(self, channels: Sequence[str], after: str | None) -> Standing:
        """How a reader at ``after`` stands to the log."""
        page = self.read(channels, after)
        # No entry can be newer than the page, so its sequence does for all channels.
        latest = dict.fromkeys(channels, page.sequence)
        return Missed() if page.entries or page.gone else up_to_date(latest, page)

    def listen(self, loop: asyncio.AbstractEventLoop, inbox: Inbox) -> _MemoryListener:
        """Begin to listen. Call on ``loop``."""
        listener = _MemoryListener(self, loop, inbox)
        with self._lock:
            self._listeners.add(listener)
        return listener

    def forget(self, listener: _MemoryListener) -> None:
        """Deliver to ``listener`` no more."""
        with self._lock:
            self._listeners.discard(listener)

    def close(self) -> None:
        """Nothing to free: the log lives as long as the broker does."""

    def read(self, channels: Sequence[str], after: str | None) -> Replay:
        """One page of the log. Any thread."""
        with self._lock:
            head = self._sequence
            ended = frozenset(
                c for c in channels if c in self._channels and self._channels[c].ended
            )
            if after is None:
                return Replay.nothing(head, self._position(head), ended=ended)
            start = self._sequence_of(channels, after)
            gone: set[str] = set()
            if start is None:  # nobody knows what this reader has: it is given what there is
                start, gone = 0, set(channels)
            found: list[Entry] = []
            for name in channels:
                log = self._channels.get(name)
                if log is not None:
                    self._trim(log)
                    found += log.after(start)
                if start < (log.trimmed if log else self._floor):
                    gone.add(name)
            found.sort(key=lambda entry: entry.sequence)
            page, more = take_page(found, lambda entry: len(entry.frame))
            reached = page[-1].sequence if more else head
            return Replay(
                entries=page,
                gone=frozenset(gone),
                sequence=reached,
                start=self._position(page[0].sequence - 1 if page else head),
                position=self._position(reached),
                more=more,
                ended=ended,
            )

    def _append(self, channel: str, event: Event | None, kind: Kind) -> str:
        with self._lock:
            log = self._channels.setdefault(channel, _Channel())
            self._sequence += 1
            entry = Entry(channel, self._sequence, self._position(self._sequence), event, kind)
            log.append(entry, self._clock())
            self._trim(log)
            if self._sequence % _FORGET_EVERY == 0:
                self._forget_channels()
            # Inside the lock, so that every listener hears in the order of the log. It only
            # appends to a deque and wakes a loop; it calls nothing of anybody else's.
            for listener in tuple(self._listeners):
                if not listener.post(entry):
                    self._listeners.discard(listener)
        return (event.id if event else None) or entry.position

    def _trim(self, log: _Channel) -> None:
        retention = self._retention
        log.trim(length=retention.length, expired_s=self._clock() - retention.age_s)

    def _forget_channels(self) -> None:
        before_s = self._clock() - self._retention.forget_s
        for name in [n for n, log in self._channels.items() if log.touched_s < before_s]:
            log = self._channels.pop(name)
            self._floor = max(
                self._floor, log.entries[-1][1].sequence if log.entries else log.trimmed
            )

    def _begin_anew(self) -> None:
        self._lock = Lock()
        self._listeners = set()

    def _position(self, sequence: int) -> str:
        return str(Position(self._epoch, sequence))

    def _sequence_of(self, channels: Collection[str], after: str) -> int | None:
        """Where a last event ID stands in the log, or None where nobody can tell."""
        position = Position.parse(after)
        if position is None:
            logs = [self._channels[name] for name in channels if name in self._channels]
            places = [log.own[after] for log in logs if after in log.own]
            # An id that stands there twice, or stood there before, may be either of its events.
            return places[0][0] if len(places) == 1 and not places[0][1] else None
        is_known = position.epoch == self._epoch and position.sequence <= self._sequence
        return position.sequence if is_known else None


class _MemoryListener:
    """The reading side. All but `post` belongs to the loop."""

    def __init__(self, broker: MemoryBroker, loop: asyncio.AbstractEventLoop, inbox: Inbox) -> None:
        self._broker = broker
        self._loop = loop
        self._inbox = inbox
        self._channels: set[str] = set()
        self._posted: deque[Entry] = deque()

    async def subscribe(self, channels: Collection[str]) -> None:
        """Deliver these channels from now on."""
        self._channels.update(channels)

    def follow(self, standing: UpToDate) -> bool:
        """Deliver from there on, if nothing was published since."""
        if self._posted or self._broker.sequence != standing.page.sequence:
            return False
        self._channels.update(standing.latest)
        return True

    def unsubscribe(self, channels: Collection[str]) -> None:
        """Deliver these channels no more."""
        self._channels.difference_update(channels)

    async def replay(self, channels: Sequence[str], after: str | None) -> Replay:
        """Read a page of the log."""
        replay = self._broker.read(channels, after)
        self._deliver()
        return replay

    def stop(self) -> None:
        """Deliver nothing more."""
        self._broker.forget(self)
        self._channels.clear()

    def post(self, entry: Entry) -> bool:
        """Take an entry and wake the loop; False where that is closed. Any thread."""
        # Append, then look: the other way round the loop may empty the deque in between, and
        # nobody would wake it again.
        self._posted.append(entry)
        if len(self._posted) == 1:
            # An empty context: the publishing request's own would live as long as the callback.
            try:
                self._loop.call_soon_threadsafe(self._deliver, context=contextvars.Context())
            except RuntimeError:
                return False
        return True

    def _deliver(self) -> None:
        entries = []
        while self._posted:
            entry = self._posted.popleft()
            if entry.channel in self._channels:
                entries.append(entry)
        if entries:
            self._inbox.deliver(entries)
