"""Reading channels inside this process: what ``flask sse listen`` prints."""

from __future__ import annotations

import asyncio
from _queue import Empty
from collections.abc import Collection, Iterator, Sequence

from flask_eventstream.brokers import Broker, Listener
from flask_eventstream.log import Entry
from flask_eventstream.native import Mailbox
from flask_eventstream.runner import runner

__all__ = ["read_entries"]

#: How often a waiting reader looks up, so that Ctrl-C reaches it.
_LOOK_UP_S = 0.25


class _Inbox:
    """Takes what a listener delivers, on the hub thread, and hands it to the reading thread."""

    def __init__(self) -> None:
        self.mailbox: Mailbox[Entry] = Mailbox()

    def deliver(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self.mailbox.put(entry)

    def interrupted(self, channels: Collection[str] | None, position: str) -> None:
        """Nothing to say: a reader of what comes does not know of what came."""


def read_entries(broker: Broker, channels: Collection[str]) -> Iterator[Entry]:
    """Every entry of these channels from now on. Blocks the calling thread; close it to stop."""
    run = runner()
    inbox = _Inbox()
    listeners: list[Listener] = []
    tasks: list[asyncio.Task[None]] = []

    def start() -> None:
        listener = broker.listen(run.loop, inbox)
        listeners.append(listener)
        tasks.append(run.loop.create_task(listener.subscribe(channels)))

    def stop() -> None:
        for listener in listeners:
            listener.stop()

    run.call(start)
    try:
        while True:
            try:
                yield inbox.mailbox.get(timeout=_LOOK_UP_S)
            except Empty:
                continue
    finally:
        run.call(stop)
