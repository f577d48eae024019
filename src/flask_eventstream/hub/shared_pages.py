"""SharedPages of the log that readers share who come back from the same place.

The clients of a server that went away come back together, and most of them with one last event ID:
what they missed is read and encoded once. A page is good for whoever asks until something is
delivered on its channels: up to then, what it lacks is still to come to everybody.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence

from flask_eventstream.brokers import Listener
from flask_eventstream.log.entries import Entry, Replay

__all__ = ["SharedPages"]

#: Seconds for which a page is kept, and how many: a page may have a megabyte.
_KEEP_S = 1.0
_MOST = 16

_Key = tuple[tuple[str, ...], str]


class SharedPages:
    """Reads pages for the streams of one hub. Belongs to the hub's loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._reads: dict[_Key, asyncio.Task[Replay]] = {}

    async def read(
        self, listener: Listener, channels: tuple[str, ...], after: str | None
    ) -> Replay:
        """A page as `Listener.replay` gives it. The caller is subscribed, and holds what comes."""
        if after is None:  # "from now on" is another place each time
            return await listener.replay(channels, None)
        read = self._reads.get((channels, after))
        if read is None:
            read = self._loop.create_task(listener.replay(channels, after))
            read.add_done_callback(_take_note)
            self._keep((channels, after), read)
        return await asyncio.shield(read)  # who leaves must not end it for the others

    def heard(self, entries: Sequence[Entry]) -> None:
        """These are delivered now."""
        if self._reads:
            self.forget({entry.channel for entry in entries})

    def forget(self, channels: Collection[str] | None) -> None:
        """Of these channels (``None``: of all) something came, or is not heard any more."""
        for key in tuple(self._reads):
            if channels is None or not set(channels).isdisjoint(key[0]):
                del self._reads[key]

    def _keep(self, key: _Key, read: asyncio.Task[Replay]) -> None:
        while len(self._reads) >= _MOST:
            del self._reads[next(iter(self._reads))]
        self._reads[key] = read
        self._loop.call_later(_KEEP_S, self._drop, key, read)

    def _drop(self, key: _Key, read: asyncio.Task[Replay]) -> None:
        if self._reads.get(key) is read:
            del self._reads[key]


def _take_note(read: asyncio.Task[Replay]) -> None:
    # asyncio complains of an error that nobody saw; here everybody may have left.
    if not read.cancelled():
        read.exception()
