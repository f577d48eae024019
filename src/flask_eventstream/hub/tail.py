"""Reading channels inside this process: what ``flask sse listen`` prints, and ``sse.messages``."""

from __future__ import annotations

import _socket
import asyncio
import contextlib
import socket
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from flask_eventstream.brokers import Broker, Listener
from flask_eventstream.hub.thread import HubThread, can_run, hub_thread
from flask_eventstream.log.entries import Entry

__all__ = ["Gap", "read_entries"]

_Item = TypeVar("_Item")

_WAKE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Gap:
    """Something of these channels is gone, between what came and what comes."""

    channels: frozenset[str]
    position: str


class _Mail(Generic[_Item]):
    """From the hub thread to one reader, which waits on a socket.

    That is the one way of waiting that greenlets understand: a patched process has a patched
    socket, and everything else goes on meanwhile. Elsewhere Ctrl-C ends it at once.
    """

    def __init__(self) -> None:
        self._items: deque[_Item] = deque()
        self._reader, ours = socket.socketpair()
        self._reader.settimeout(None)  # whatever socket.setdefaulttimeout was told
        # The hub's end is the C socket, which nobody patches.
        self._waker = _socket.socket(fileno=ours.detach())
        self._waker.settimeout(0)

    def put(self, item: _Item) -> None:
        """On the hub thread."""
        self._items.append(item)
        with contextlib.suppress(OSError):  # it is full of wake-ups already, or nobody reads
            self._waker.send(b"\0")

    def get(self) -> _Item:
        """On the reader's thread, which waits."""
        while not self._items:
            self._reader.recv(_WAKE_BYTES)
        return self._items.popleft()

    def stop(self) -> None:
        """On the reader's thread: it reads no more. The hub may still put."""
        self._reader.close()

    def free(self) -> None:
        """On the hub thread: it puts no more."""
        self._waker.close()


class _Tail:
    """Listens, on the hub thread, and hands what it hears to the reading thread."""

    def __init__(self, run: HubThread, broker: Broker, channels: Collection[str]) -> None:
        self.mail: _Mail[Entry | Gap] = _Mail()
        self.begun: _Mail[asyncio.Task[None]] = _Mail()
        self._run = run
        self._broker = broker
        self._channels = channels
        self._listener: Listener | None = None
        self._beginning: asyncio.Task[None] | None = None

    def start(self) -> None:
        """On the hub thread."""
        self._beginning = self._run.loop.create_task(self._begin())
        self._beginning.add_done_callback(self.begun.put)

    async def _begin(self) -> None:
        self._listener = self._broker.listen(self._run.loop, self)
        await self._listener.subscribe(self._channels)

    def deliver(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self.mail.put(entry)

    def interrupted(self, channels: Collection[str] | None, position: str) -> None:
        self.mail.put(Gap(frozenset(self._channels if channels is None else channels), position))

    def stop(self) -> None:
        """On the hub thread."""
        if self._listener is not None:
            self._listener.stop()
        self.begun.free()
        self.mail.free()

    def read(self) -> Iterator[Entry | Gap | None]:
        """On the reader's thread: first nothing, then what comes."""
        try:
            yield None
            while True:
                yield self.mail.get()
        finally:
            self.mail.stop()
            self._run.call(self.stop)


def read_entries(broker: Broker, channels: Collection[str]) -> Iterator[Entry | Gap]:
    """Every entry of these channels from now on: nothing is missed once this has returned.

    What the log lost all the same is a `Gap`.

    Blocks the calling thread or greenlet, also here while the broker is away; close the iterator to
    stop.

    Raises:
        RuntimeError: The process is going down, or can't run a loop beside its greenlets.
    """
    if not can_run():
        raise RuntimeError("uvloop is not installed, and no other loop can run beside greenlets")
    run = hub_thread()
    tail = _Tail(run, broker, channels)
    run.call(tail.start)
    try:
        tail.begun.get().result()
    except BaseException:
        tail.mail.stop()
        run.call(tail.stop)
        raise
    finally:
        tail.begun.stop()
    entries = tail.read()
    next(entries)  # a generator that never began would not stop the listener when it is closed
    return cast("Iterator[Entry | Gap]", entries)
