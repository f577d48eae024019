"""How many streams and subjects a channel has, over all processes that share the log.

Each process counts its own streams. It tells the broker what it counted only while somebody asks:
whoever asks leaves a mark that lasts some minutes, and processes with streams look for the mark
once a second, a read of one record. Changes are told together, once a second. A process that was
killed is gone with its lease.
"""

from __future__ import annotations

import hashlib
import json
import logging
import secrets
import time
import weakref
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from flask_eventstream.brokers import Broker, HasRecords, HasShares
from flask_eventstream.errors import BrokerUnavailable, EndReason
from flask_eventstream.hub.observer import Unobserved
from flask_eventstream.hub.request import Reader
from flask_eventstream.process import Lock, in_forked_child, start_app_thread

__all__ = ["Census", "Readers"]

_LOGGER = logging.getLogger("flask_eventstream")

#: Seconds for which a process counts that says nothing more, and after which it says it again.
LEASE_S = 30.0
_RENEW_PART = 1 / 3

#: Seconds between two looks at what changed.
TICK_S = 1.0

#: Seconds that whoever asks first gives the other processes: a look, and a moment to tell.
_ANSWER_S = 1.5

#: Seconds for which the mark lasts, and for which a process that set or saw it looks no more.
_ASKED_S = 600.0
_SURE_S = 60.0
_MARK = "readers-asked"

#: Looks without any stream, after which a process looks no more until the next one opens.
_IDLE_TICKS = 30

#: Seconds for which taking the leave waits for a thread that tells.
_LEAVE_S = 1.0

#: Channels that are told at once: what one server takes in a millisecond.
_BATCH = 500

#: Bytes of a subject's digest. It is for size; two of a million collide once in 40 million logs.
_DIGEST_BYTES = 8


@dataclass(frozen=True, slots=True)
class Readers:
    """Who reads a channel now."""

    streams: int
    """Open streams, over all processes."""
    subjects: int
    """Distinct subjects among their readers. Who has none is not counted."""


class Census(Unobserved):
    """Counts the streams of one application in this process, and sums up all processes'.

    What it is told as an observer comes on hubs' loops; the rest may be called on any thread of the
    application, and may wait for the broker.
    """

    def __init__(self, broker: Broker, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._broker = broker
        self._clock = clock
        self._begin_anew()
        in_forked_child(self._begin_anew)

    def _begin_anew(self) -> None:
        """At the beginning, and in a forked child, which has no stream yet."""
        self._lock = Lock()
        self._telling = Lock()
        self._owner = secrets.token_hex(8)
        self._open: set[str] = set()
        self._counts: dict[str, Counter[str | None]] = {}
        self._changed: set[str] = set()
        self._looks = False
        self._over = False
        self._idle_ticks = 0
        self._told = False
        self._told_s = 0.0
        self._asked_until_s = 0.0
        self._marked_until_s = 0.0

    # ---- on hubs' loops

    def opened(self, reader: Reader, channels: Collection[str]) -> None:
        """Count a stream."""
        if channels:
            with self._lock:
                self._open.add(reader.stream_id)
                self._count(reader, channels, 1)

    def closed(self, reader: Reader, channels: Collection[str], reason: EndReason) -> None:
        """Count it no more."""
        with self._lock:
            if reader.stream_id in self._open:  # one that was sent away never was
                self._open.remove(reader.stream_id)
                self._count(reader, channels, -1)

    def _count(self, reader: Reader, channels: Collection[str], by: int) -> None:
        key = None if reader.subject is None else _digest(reader.subject)
        for channel in channels:
            counts = self._counts.setdefault(channel, Counter())
            counts[key] += by
            if not counts[key]:
                del counts[key]
                if not counts:
                    del self._counts[channel]
            self._changed.add(channel)

    # ---- on threads of the application

    def prepare(self) -> None:
        """Before a stream is opened: see to it that somebody looks after the counts."""
        with self._lock:
            if self._looks:
                return
            self._looks = True
        try:
            start_app_thread(_Watch(weakref.ref(self)), name="flask-eventstream census")
        except RuntimeError:  # no thread can be had now: the next stream tries again
            self._looks = False

    def readers(self, channel: str) -> Readers:
        """Who reads a channel now.

        Blocks for two round trips; for a second and a half more where nobody asked for minutes.

        Raises:
            BrokerUnavailable: Nobody knows.
            TypeError: The broker is one of your own that can't count.
        """
        broker = self._broker
        if not isinstance(broker, HasShares):
            raise TypeError(
                f"a broker of {type(broker).__name__} can't count an application's readers"
            )
        wait_s = self._mark()
        if self._broker.is_shared and wait_s > 0:
            time.sleep(wait_s)
        self._tell(raising=True)
        return _sum(broker.shares(channel))

    def tick(self) -> bool:
        """Tell the broker what changed, where somebody asks. False: call no more."""
        try:
            if self._open and self._is_asked():
                self._tell()
            elif self._told:
                self.leave()
        except BrokerUnavailable as error:
            _LOGGER.debug("Readers could not be told: %s", error)
        with self._lock:
            self._idle_ticks = 0 if self._open else self._idle_ticks + 1
            self._looks = self._idle_ticks <= _IDLE_TICKS and not self._over
            return self._looks

    def leave(self) -> None:
        """Take away what this process told; it may tell again."""
        if not isinstance(self._broker, HasShares) or not self._telling.acquire(timeout=_LEAVE_S):
            return
        try:
            if self._told:
                self._told = False
                self._broker.unshare(self._owner)
        except BrokerUnavailable as error:  # its lease ends
            _LOGGER.debug("Readers could not be taken away: %s", error)
        finally:
            self._telling.release()

    def close(self) -> None:
        """Leave for good, at the process's end."""
        self._over = True
        self.leave()

    def _mark(self) -> float:
        """Let all processes know that somebody asks. Returns the seconds until they answered."""
        now_s, wall_s = self._clock(), time.time()
        if not isinstance(self._broker, HasRecords) or now_s < self._marked_until_s:
            return 0.0
        first_s = float(self._broker.recall(_MARK) or wall_s)
        self._broker.remember(_MARK, str(first_s), for_s=_ASKED_S)
        self._marked_until_s = self._asked_until_s = now_s + _SURE_S
        return min(_ANSWER_S, first_s + _ANSWER_S - wall_s)

    def _is_asked(self) -> bool:
        now_s = self._clock()
        if now_s >= self._asked_until_s and isinstance(self._broker, HasRecords):
            found = self._broker.recall(_MARK)
            self._asked_until_s = now_s + _SURE_S if found else 0.0
        return now_s < self._asked_until_s

    def _tell(self, *, raising: bool = False) -> None:
        """Tell what changed, or at a third of the lease that it is still so."""
        if self._over or not self._telling.acquire(blocking=False):
            return  # another thread does
        try:
            for _ in range(2):  # again, where the broker forgot
                if self._try_to_tell():
                    return
        except BrokerUnavailable:
            self._told = False  # nobody knows what it has
            if raising:
                raise
            _LOGGER.debug("Readers could not be told", exc_info=True)
        finally:
            self._telling.release()

    def _try_to_tell(self) -> bool:
        broker, now_s = self._broker, self._clock()
        with self._lock:
            names = self._changed if self._told else set(self._counts)
            self._changed = set()
        changed = {name: self._said_of(name) for name in names}
        is_due = now_s >= self._told_s + LEASE_S * _RENEW_PART
        if not isinstance(broker, HasShares) or not (changed or (self._told and is_due)):
            return True
        whole = not self._told
        for batch in _batches(changed):
            if not broker.share(self._owner, batch, for_s=LEASE_S, whole=whole):
                self._told = False
                return False
            whole = False
        self._told, self._told_s = True, now_s
        return True

    def _said_of(self, channel: str) -> str:
        """Its streams and its subjects as text; nothing of none."""
        with self._lock:  # for each one anew: a hub's loop may wait for it
            counts = dict(self._counts.get(channel, ()))
        if not counts:
            return ""
        return json.dumps([sum(counts.values()), [key for key in counts if key is not None]])


class _Watch:
    """Ticks a census for as long as that has streams, and somebody has the census."""

    def __init__(self, census: weakref.ref[Census]) -> None:
        self._census = census

    def __call__(self) -> None:
        # First of all the stream opens: libuv aborts the process where descriptors are taken
        # between their counting and the making of its loop.
        time.sleep(TICK_S)
        while self._tick():
            time.sleep(TICK_S)

    def _tick(self) -> bool:
        census = self._census()
        return census is not None and census.tick()


def _digest(subject: str) -> str:
    return hashlib.blake2b(subject.encode(), digest_size=_DIGEST_BYTES).hexdigest()


def _sum(texts: Iterable[str]) -> Readers:
    said = [json.loads(text) for text in texts]
    subjects = {subject for _, each in said for subject in each}
    return Readers(sum(streams for streams, _ in said), len(subjects))


def _batches(changed: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """Pieces of what is to be told; one that is empty says that all is as it was."""
    items = iter(changed.items())
    yield dict(islice(items, _BATCH))
    while batch := dict(islice(items, _BATCH)):
        yield batch
