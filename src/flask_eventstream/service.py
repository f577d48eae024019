"""One EventStream on one application: its configuration, its log, and this process's hub."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from typing import Any

from flask_eventstream.brokers import Broker
from flask_eventstream.config import Config
from flask_eventstream.hub import Hub, Stats
from flask_eventstream.native import Lock, in_forked_child, open_file_limit
from flask_eventstream.publisher import Publisher
from flask_eventstream.runner import Runner
from flask_eventstream.stream import Adoption

__all__ = ["Service"]

_LOGGER = logging.getLogger("flask_eventstream")

#: Descriptors left for everything that is no stream: the log, databases, ordinary requests, and
#: three for each connection that is being taken over.
_RESERVED_FILES = 100

#: Streams that may hold a thread each, where no connection can be taken over: half of the eight
#: threads that people usually configure, so that ordinary requests are always answered.
_MAX_HELD = 4


class Service:
    """What the views and the extension need of one application. Any thread may use it."""

    def __init__(self, config: Config, broker: Broker) -> None:
        self.config = config
        self.broker = broker
        self.publisher = Publisher(
            broker,
            max_event_bytes=config.max_event_bytes,
            timeout_s=config.publish_timeout_s,
        )
        self._hub: Hub | None = None
        self._held = 0
        self._lock = Lock()
        self._said: set[str] = set()
        in_forked_child(self._begin_anew)

    def adopt(self, runner: Runner, adoption: Adoption) -> None:
        """Give a stream to the hub. On the hub thread."""
        hub = self._hub
        if hub is None or hub.loop is not runner.loop:
            limit = open_file_limit() - _RESERVED_FILES
            hub = self._hub = Hub(
                runner.loop,
                self.broker,
                self.config,
                max_streams=self.config.max_streams or max(limit, 1),
                random=random.random,
                released=runner.fds.discard,
            )
            runner.hubs.add(hub)
        hub.adopt(adoption)

    def stats(self) -> Stats:
        """What this process's hub does now."""
        return self._hub.stats() if self._hub else Stats(0, 0, 0, {})

    def hold_thread(self, environ: Mapping[str, Any]) -> bool:
        """Count a stream that holds a thread; False where none can be spared."""
        # A server with one thread can spare none, and no stream at all would be worse: it gets
        # one, and a short life (see lifetime_s). Greenlets are not scarce.
        limit = _MAX_HELD if environ.get("wsgi.multithread") else 1
        if "werkzeug.socket" in environ and environ.get("wsgi.multithread"):
            limit = 1000  # it starts a thread for each request
        with self._lock:
            if self._held >= limit:
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
