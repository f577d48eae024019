"""The reading side of a broker, as a test drives it: a loop on a thread, and ears on it.

`Ear` stands where the hub stands; `Ear.attach` makes one reader live exactly as the hub does.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from flask_eventstream.brokers import Broker
from flask_eventstream.hub.splice import Splice
from flask_eventstream.log.entries import Entry, Replay, Standing, UpToDate
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
        self.channels = channels
        self.standing = standing if isinstance(standing, UpToDate) else None
        """How it stood when it came, if it had everything."""
        self.at_once = False
        """True where nothing had to be read for it."""
        self.splice = Splice(self.standing.page.position if self.standing else after)
        self.live = False
        self.resets: list[frozenset[str]] = []
        self.entries: list[Entry] = []

    @property
    def data(self) -> list[str]:
        return [entry.event.data for entry in tuple(self.entries) if entry.event]

    def take(self, entry: Entry) -> None:
        if entry.channel in self.channels:
            if self.live:
                self.entries.append(entry)
            else:
                self.splice.hold(entry)


class Ear:
    """A listener and everything that it delivered. Its methods belong to the test's thread."""

    def __init__(self, loop: Loop, broker: Broker) -> None:
        self.heard: list[Entry] = []
        self.interruptions: list[tuple[Collection[str] | None, str]] = []
        self.readers: list[Reader] = []
        self._loop = loop
        self.listener = loop.call(broker.listen, loop.loop, self)

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
        splice = reader.splice
        self.readers.append(reader)
        if reader.standing is not None and self.listener.follow(reader.standing):
            reader.live = reader.at_once = True
            return
        await self.listener.subscribe(reader.channels)
        while not splice.caught_up:
            splice.reading()
            replay = await self.listener.replay(reader.channels, splice.after)
            splice.replayed(replay)
            if replay.gone:
                reader.resets.append(replay.gone)
            reader.entries += replay.entries
            await asyncio.sleep(0)  # where the hub waits for a slow client
        reader.entries += splice.release()
        reader.live = True

    # ---- what the listener calls, on the loop

    def deliver(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self.heard.append(entry)
            for reader in self.readers:
                reader.take(entry)

    def interrupted(self, channels: Collection[str] | None, position: str) -> None:
        self.interruptions.append((channels, position))
        for reader in self.readers:
            if channels is None or set(channels) & set(reader.channels):
                if reader.live:
                    reader.resets.append(frozenset(channels or reader.channels))
                else:
                    reader.splice.interrupt()
