"""Where hubs live: on a loop, one for each application that has streams there.

A home is our own hub thread (thread.py) or an ASGI server's loop (servers/asgi). A hub belongs to
its home: two loops of one process have a hub each, which share the application's limits and
figures, and a fork, which leaves the loops behind, leaves their hubs behind with them.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
import weakref
from typing import Protocol

from flask_eventstream.brokers import Broker
from flask_eventstream.config import Config
from flask_eventstream.hub.admission import Admission
from flask_eventstream.hub.hub import Hub
from flask_eventstream.hub.observer import Observer
from flask_eventstream.process import Lock, in_forked_child

__all__ = ["HOMES", "Home", "Homes", "Tenant"]


class Tenant(Protocol):
    """An application, as its hubs see it. `state.AppState` is one."""

    @property
    def config(self) -> Config:
        """Heartbeat, retry, lifetime and bounds."""

    @property
    def broker(self) -> Broker:
        """The log of events."""

    @property
    def admission(self) -> Admission:
        """Who may have a stream."""

    @property
    def observer(self) -> Observer:
        """Told what happens to streams."""


class Home:
    """The hubs on one loop. Belongs to the loop, but for what says otherwise."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.fds: set[int] = set()
        """Descriptors of clients, from the moment they are taken until they are gone."""
        self._hub_of: weakref.WeakKeyDictionary[Tenant, Hub] = weakref.WeakKeyDictionary()
        # Of applications that nobody has any more, too: their streams are still to be ended.
        self._hubs: weakref.WeakSet[Hub] = weakref.WeakSet()
        self._ending: set[asyncio.Task[None]] = set()
        HOMES.add(self)

    @property
    def hubs(self) -> list[Hub]:
        """All hubs here. Any thread."""
        with HOMES.lock:
            return list(self._hubs)

    def hub_of(self, tenant: Tenant) -> Hub:
        """The application's hub here; made by its first stream."""
        hub = self._hub_of.get(tenant)
        if hub is None:
            hub = Hub(
                self.loop,
                tenant.broker,
                tenant.config,
                admission=tenant.admission,
                random=random.random,
                released=self.fds.discard,
                observer=tenant.observer,
            )
            with HOMES.lock:
                self._hub_of[tenant] = hub
                self._hubs.add(hub)
        return hub

    def end_streams(self, tenant: Tenant, within_s: float) -> bool:
        """End the application's streams here, and wait for it. Not on the loop.

        Returns False where the time did not do, or the loop is closed.
        """
        hub = self._hub_of.get(tenant)
        if hub is None or not hub.stats().streams:
            return True
        done = Lock()
        done.acquire()

        async def end() -> None:
            try:
                await hub.end_all(within_s)
            finally:
                done.release()

        def begin() -> None:
            task = self.loop.create_task(end())
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

        try:
            self.loop.call_soon_threadsafe(begin, context=contextvars.Context())
        except RuntimeError:
            return False
        return bool(done.acquire(timeout=2 * within_s))

    def find_hub(self, tenant: Tenant) -> Hub | None:
        """The application's hub here, if it has one. Any thread."""
        return self._hub_of.get(tenant)


class Homes:
    """The homes of this process. Any thread."""

    def __init__(self) -> None:
        self.lock = Lock()
        self._all: weakref.WeakSet[Home] = weakref.WeakSet()
        in_forked_child(self._begin_anew)

    def add(self, home: Home) -> None:
        """A loop that may have hubs."""
        with self.lock:
            self._all.add(home)

    def hubs_of(self, tenant: Tenant) -> list[Hub]:
        """The application's hubs in this process."""
        found = (home.find_hub(tenant) for home in self.all())
        return [hub for hub in found if hub is not None]

    def all(self) -> list[Home]:
        """The homes of now."""
        with self.lock:
            return list(self._all)

    def _begin_anew(self) -> None:
        """In a forked child: no loop of the parent's runs here."""
        self.lock = Lock()
        self._all = weakref.WeakSet()


#: This process's.
HOMES = Homes()
