"""Reading channels inside this process: what ``flask sse listen`` prints."""

from __future__ import annotations

import asyncio
from _queue import Empty
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TypeVar, cast

from flask_eventstream.brokers import Broker, Listener
from flask_eventstream.hub.thread import hub_thread
from flask_eventstream.log.entries import Entry, Kind
from flask_eventstream.process import Mailbox

__all__ = ["read_entries"]

_Item = TypeVar("_Item")

#: How often a waiting reader looks up, so that Ctrl-C reaches it.
_LOOK_UP_S = 0.25


class _Inbox:
    """Takes what a listener delivers, on the hub thread, and hands it to the reading thread."""

    def __init__(self) -> None:
        self.mailbox: Mailbox[Entry] = Mailbox()

    def deliver(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if entry.kind is not Kind.CONTROL:
                self.mailbox.put(entry)

    def interrupted(self, channels: Collection[str] | None, position: str) -> None:
        """Nothing to say: a reader of what comes does not know of what came."""


def read_entries(broker: Broker, channels: Collection[str]) -> Iterator[Entry]:
    """Every entry of these channels from now on: nothing is missed once this has returned.

    Blocks the calling thread, also here while the broker is away; close the iterator to stop.
    """
    run = hub_thread()
    inbox = _Inbox()
    listeners: list[Listener] = []
    tasks: list[asyncio.Task[None]] = []
    begun: Mailbox[asyncio.Task[None]] = Mailbox()

    async def begin() -> None:
        listener = broker.listen(run.loop, inbox)
        listeners.append(listener)
        await listener.subscribe(channels)

    def start() -> None:
        tasks.append(run.loop.create_task(begin()))
        tasks[0].add_done_callback(begun.put)

    def stop() -> None:
        for listener in listeners:
            listener.stop()

    run.call(start)
    try:
        _next_of(begun).result()
    except BaseException:
        run.call(stop)
        raise
    entries = _entries(inbox, lambda: run.call(stop))
    next(entries)  # a generator that never began would not stop the listener when it is closed
    return cast("Iterator[Entry]", entries)


def _entries(inbox: _Inbox, stop: Callable[[], None]) -> Iterator[Entry | None]:
    try:
        yield None
        while True:
            yield _next_of(inbox.mailbox)
    finally:
        stop()


def _next_of(mailbox: Mailbox[_Item]) -> _Item:
    while True:
        try:
            return mailbox.get(timeout=_LOOK_UP_S)
        except Empty:
            continue
