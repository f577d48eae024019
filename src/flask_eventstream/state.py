"""One EventStream on one application: its configuration, its log, and this process's hub."""

from __future__ import annotations

import asyncio
import logging
import random
import weakref
from dataclasses import dataclass
from typing import Protocol

from flask_eventstream.brokers import Broker
from flask_eventstream.config import Config
from flask_eventstream.hub.adoption import Adoption, ServerConnection
from flask_eventstream.hub.callbacks import CloseCallbacks
from flask_eventstream.hub.hub import Hub, Stats
from flask_eventstream.process import Lock, in_forked_child, open_file_limit
from flask_eventstream.publisher import Publisher

__all__ = ["SLOT", "AppState", "Home", "Slot"]

_LOGGER = logging.getLogger("flask_eventstream")

#: Descriptors left for everything that is no stream: the log, databases, ordinary requests, and
#: three for each connection that is being taken over.
_RESERVED_FILES = 100

#: Of the threads of a server, one in so many may hold a stream, where no connection can be taken
#: over: ordinary requests have the other half.
_ONE_THREAD_IN = 2


#: Where servers/asgi puts a `Slot` into the scope of a request.
SLOT = "flask_eventstream.slot"


@dataclass(slots=True)
class Slot:
    """Under an ASGI server: what a response leaves behind so that its stream goes on without it."""

    connection: ServerConnection
    state: AppState | None = None
    adoption: Adoption | None = None


class Home(Protocol):
    """Where hubs live: our own thread (hub/thread.py), or an ASGI server's loop (servers/asgi)."""

    fds: set[int]
    hubs: weakref.WeakSet[Hub]
    loop: asyncio.AbstractEventLoop


class AppState:
    """What the views and the extension need of one application. Any thread may use it."""

    def __init__(self, config: Config, broker: Broker) -> None:
        self.config = config
        self.broker = broker
        self.publisher = Publisher(
            broker,
            max_event_bytes=config.max_event_bytes,
            timeout_s=config.publish_timeout_s,
        )
        self.callbacks = CloseCallbacks()
        self._hub: Hub | None = None
        self._held = 0
        self._lock = Lock()
        self._said: set[str] = set()
        in_forked_child(self._begin_anew)

    def adopt(self, home: Home, adoption: Adoption) -> None:
        """Give a stream to the hub. On the home's loop."""
        hub = self._hub
        if hub is None or hub.loop is not home.loop:
            limit = open_file_limit() - _RESERVED_FILES
            hub = self._hub = Hub(
                home.loop,
                self.broker,
                self.config,
                max_streams=self.config.max_streams or max(limit, 1),
                random=random.random,
                released=home.fds.discard,
                observer=self.callbacks,
            )
            home.hubs.add(hub)
        hub.adopt(adoption)

    def say_if_full(self) -> None:
        """Log, once, that the hub sends further streams away, and what to do about it."""
        if self._hub is not None and self._hub.full:
            limit = "SSE_MAX_STREAMS" if self.config.max_streams else "the limit on open files"
            more = "raise it" if self.config.max_streams else "raise ulimit -n"
            text = "A stream was sent away: %d are open, all that %s allows: %s"
            self.say_once(text, self._hub.stats().streams, limit, more)

    def stats(self) -> Stats:
        """What this process's hub does now."""
        return self._hub.stats() if self._hub else Stats(0, 0, 0, {})

    def hold_thread(self, threads: int | None) -> bool:
        """Count a stream that holds a thread; False where none can be spared.

        Args:
            threads: How many the server has; ``None`` where it does not say. Then one stream must
                do, unless somebody who knows set SSE_MAX_STREAMS.
        """
        # A server with one thread can spare none, and no stream at all would be worse: it gets
        # one, and a short life (see servers/wsgi).
        limit = threads // _ONE_THREAD_IN if threads is not None else self.config.max_streams
        with self._lock:
            if self._held >= max(limit or 0, 1):
                return False
            self._held += 1
            return True

    def free_thread(self) -> None:
        """The stream that held a thread is over."""
        with self._lock:
            self._held -= 1

    def _begin_anew(self) -> None:
        """In a forked child: the parent's streams hold none of its threads."""
        self._lock = Lock()
        self._held = 0

    def say_once(self, text: str, *details: object) -> None:
        """Log a warning, once per process."""
        if text not in self._said:
            self._said.add(text)
            _LOGGER.warning(text, *details)
