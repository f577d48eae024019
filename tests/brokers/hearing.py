"""The reading side of a broker, as a test drives it: a loop on a thread, and ears on it.

`Ear` stands where the hub stands; its readers become live through the hub's own room for that.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from flask_eventstream.brokers import Broker
from flask_eventstream.hub.bring_live import BringLive
from flask_eventstream.hub.shared_pages import SharedPages
from flask_eventstream.log.entries import Entry, Missed, Replay, Standing, UpToDate
from harness.waiting import wait_until

__all__ = ["Ear", "Loop", "Reader", "running_loop"]

T = TypeVar("T")


class Loop:
    """An event loop on a thread of its own. Its methods belong to the test's threads."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop

    def run(self, coroutine: Coroutine[Any, Any, T], within_s: float = 10) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(within_s)

    def call(self, function: Callable[..., T], *args: object) -> T:
        async def call() -> T:
            return function(*args)

        return self.run(call())


@contextmanager
def running_loop() -> Iterator[Loop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield Loop(loop)
    finally:
        asyncio.run_coroutine_threadsafe(_finish(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _finish() -> None:
    """Let what was cancelled clear up after itself."""
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        await asyncio.wait(left, timeout=5)


class Reader:
    """One reader of an ear: what it got, in order."""

    def __init__(
        self, channels: Sequence[str], after: str | None, standing: Standing | None = None
    ) -> None:
        self.channels = tuple(channels)
        self.after = after
        self.standing = standing if isinstance(standing, UpToDate) else None
        """How it stood when it came, if it had everything."""
        self.at_once = False
        """True where nothing had to be read for it."""
        self.live = False
        self.resets: list[frozenset[str]] = []
        self.entries: list[Entry] = []

    @property
    def data(self) -> list[str]:
        return [entry.event.data for entry in tuple(self.entries) if entry.event]

    # ---- what brings it live: a Newcomer

    def kept_waiting(self) -> None:
        """The hub would write the head now."""

    def give(self, page: Replay) -> None:
        if self.standing is not None and page is self.standing.page:
            self.at_once = True
        if page.gone:
            self.resets.append(page.gone)
        self.entries += page.entries

    async def ready(self) -> bool:
        await asyncio.sleep(0)  # where the hub waits for a slow client
        return True

    def go_live(self, held: Sequence[Entry]) -> None:
        self.entries += held
        self.live = True


class Ear:
    """A listener and everything that it delivered. Its methods belong to the test's thread."""

    def __init__(self, loop: Loop, broker: Broker) -> None:
        self.heard: list[Entry] = []
        self.interruptions: list[tuple[Collection[str] | None, str]] = []
        self.readers: list[Reader] = []
        self._loop = loop
        self.listener = loop.call(broker.listen, loop.loop, self)
        pages = SharedPages(loop.loop)
        self._bring_live = BringLive(loop.loop, lambda: self.listener, pages)

    @property
    def data(self) -> list[str]:
        return [entry.event.data for entry in tuple(self.heard) if entry.event]

    def subscribe(self, *channels: str) -> None:
        self._loop.run(self.listener.subscribe(channels))

    def unsubscribe(self, *channels: str) -> None:
        self._loop.call(self.listener.unsubscribe, channels)

    def replay(self, *channels: str, after: str | None) -> Replay:
        return self._loop.run(self.listener.replay(channels, after))

    def replay_all(self, *channels: str, after: str | None) -> list[Replay]:
        pages = [self.replay(*channels, after=after)]
        while pages[-1].more:
            pages.append(self.replay(*channels, after=pages[-1].position))
        return pages

    def attach(self, *channels: str, after: str | None = None) -> Reader:
        """A reader, on its way to live; it is live when `Reader.live` says so."""
        reader = Reader(channels, after)
        asyncio.run_coroutine_threadsafe(self._follow(reader), self._loop.loop)
        return reader

    def arrive(self, broker: Broker, *channels: str, after: str | None = None) -> Reader:
        """A reader whose request asked a broker where the log stands, and who is attached next."""
        reader = Reader(channels, after, broker.arrive(channels, after))
        asyncio.run_coroutine_threadsafe(self._follow(reader), self._loop.loop)
        return reader

    def follows(self, standing: Standing) -> bool:
        assert isinstance(standing, UpToDate)
        return self._loop.call(self.listener.follow, standing)

    def attach_live(self, *channels: str, after: str | None = None) -> Reader:
        reader = self.attach(*channels, after=after)
        wait_until(lambda: reader.live, what="the reader to be live")
        return reader

    def wait_heard(self, count: int, within_s: float = 10) -> None:
        wait_until(lambda: len(self.heard) >= count, within_s=within_s, what=f"{count} entries")

    def wait_heard_data(self, data: str, within_s: float = 10) -> None:
        wait_until(lambda: data in self.data, within_s=within_s, what=f"{data!r} to be heard")

    def stop(self) -> None:
        self._loop.call(self.listener.stop)

    async def _follow(self, reader: Reader) -> None:
        self.readers.append(reader)
        standing = Missed() if reader.standing is None else reader.standing
        await self._bring_live.bring(reader, after=reader.after, standing=standing)

    # ---- what the listener calls, on the loop

    def deliver(self, entries: Sequence[Entry]) -> None:
        self._bring_live.hold(entries)
        for entry in entries:
            self.heard.append(entry)
            for reader in self.readers:
                if reader.live and entry.channel in reader.channels:
                    reader.entries.append(entry)

    def interrupted(self, channels: Collection[str] | None, position: str) -> None:
        self.interruptions.append((channels, position))
        self._bring_live.interrupt(channels)
        for reader in self.readers:
            gone = channels is None or set(channels) & set(reader.channels)
            if gone and reader.live:
                reader.resets.append(frozenset(channels or reader.channels))
