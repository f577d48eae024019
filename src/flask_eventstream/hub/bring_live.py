"""Bringing readers from where they were to live, without a gap and without a double.

One listener's readers that are not live yet are here, each with a `Splice`. The hub drives this
room, and the brokers' contract tests drive it too: what they prove is what is run.

All of it belongs to the listener's loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from flask_eventstream.brokers import Listener
from flask_eventstream.hub.shared_pages import SharedPages
from flask_eventstream.hub.splice import Splice
from flask_eventstream.log.entries import Entry, Missed, Replay, UpToDate

__all__ = ["BringLive", "Newcomer"]

#: How long a new stream's head waits for the broker to say where the log stands. A reader that
#: publishes as soon as its stream is open must get its own event, so the position is asked first;
#: but a broker that is away must not keep ``onopen`` from firing.
_OPEN_WAIT_S = 1.0


class Newcomer(Protocol):
    """A reader who is not live yet."""

    channels: tuple[str, ...]
    """Sorted, each once."""

    def kept_waiting(self) -> None:
        """The log has not answered for a while. Called at most once, before the first page."""

    def give(self, page: Replay) -> None:
        """What the log has for it, a page at a time."""

    async def ready(self) -> bool:
        """Wait until it took the page; False where it is gone."""

    def go_live(self, held: Sequence[Entry]) -> None:
        """Take what came meanwhile; whatever comes after this call is for it, as for all others."""


class BringLive:
    """The readers of one listener that are not live yet.

    Args:
        loop: The listener's.
        listening: Gives the listener, and makes it if there is none.
        pages: Reads the log through the listener.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        listening: Callable[[], Listener],
        pages: SharedPages,
    ) -> None:
        self._loop = loop
        self._listening = listening
        self._pages = pages
        self._waiting: dict[str, dict[Splice, None]] = {}

    def __len__(self) -> int:
        """Channels that somebody waits for."""
        return len(self._waiting)

    async def bring(
        self, reader: Newcomer, *, after: str | None, standing: Missed | UpToDate
    ) -> None:
        """Give the reader what it missed, and then make it live.

        Args:
            reader: Who it is.
            after: Its last event ID; ``None`` is "from now on".
            standing: Where the log stood at its request.
        """
        if isinstance(standing, UpToDate):
            if self._listening().follow(standing):
                reader.give(standing.page)
                reader.go_live(())
                return
            after = standing.page.position  # from its request on, however late it is here
        splice = Splice(after)
        self._wait(splice, reader.channels)
        try:
            await self._catch_up(reader, splice)
        finally:
            self._wait_no_more(splice, reader.channels)

    async def _catch_up(self, reader: Newcomer, splice: Splice) -> None:
        first = self._loop.create_task(self._first_page(splice, reader.channels))
        try:
            await asyncio.wait({first}, timeout=_OPEN_WAIT_S)
            if not first.done():
                reader.kept_waiting()
            reader.give(splice.replayed(await first))
        finally:
            first.cancel()
        # A reader who takes nothing holds no more than the bytes of one page: not the entries,
        # which the task has, nor a next page.
        del first
        while await reader.ready():
            if splice.caught_up:
                # From here to live there is no await: nothing can come in between.
                reader.go_live(splice.release())
                return
            reader.give(splice.replayed(await self._next_page(splice, reader.channels)))

    async def _first_page(self, splice: Splice, channels: tuple[str, ...]) -> Replay:
        await self._listening().subscribe(channels)
        return await self._next_page(splice, channels)

    async def _next_page(self, splice: Splice, channels: tuple[str, ...]) -> Replay:
        splice.reading()
        return await self._pages.read(self._listening(), channels, splice.after)

    # ---- what the listener says

    def hold(self, entries: Sequence[Entry]) -> None:
        """Keep new entries for those who wait for them."""
        self._pages.heard(entries)
        if self._waiting:
            for entry in entries:
                for splice in self._waiting.get(entry.channel, ()):
                    splice.hold(entry)

    def interrupt(self, channels: Collection[str] | None) -> None:
        """Entries of these channels (``None``: of all) are gone: the log is to be read again."""
        self._pages.forget(channels)
        for channel, waiting in self._waiting.items():
            if channels is None or channel in channels:
                for splice in waiting:
                    splice.interrupt()

    def _wait(self, splice: Splice, channels: tuple[str, ...]) -> None:
        for channel in channels:
            self._waiting.setdefault(channel, {})[splice] = None

    def _wait_no_more(self, splice: Splice, channels: tuple[str, ...]) -> None:
        for channel in channels:
            waiting = self._waiting[channel]
            del waiting[splice]
            if not waiting:
                del self._waiting[channel]
