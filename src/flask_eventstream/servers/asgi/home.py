"""The hubs on an ASGI server's loop: goodbye in time, and nothing left to a forked child."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from flask_eventstream.hub.adoption import Adoption
from flask_eventstream.hub.home import Home
from flask_eventstream.process import register_at_fork
from flask_eventstream.servers.asgi.signals import chain_signals
from flask_eventstream.state import AppState

__all__ = ["AsgiHome", "home_here", "not_for_children"]

#: Seconds for all streams to end when the server stops; servers have their own patience after it.
_STOP_S = 1.0

#: How often a server is looked at that may stop without a signal. Servers look at themselves as
#: often (uvicorn 0.1 s, gunicorn 1 s).
_LOOK_S = 0.1


class AsgiHome(Home):
    """The hubs on one server's loop. It says goodbye to every stream when the server stops.

    In time, for servers wait for open responses before they say ``lifespan.shutdown``: uvicorn and
    granian for ever, gunicorn for half a minute, hypercorn for three seconds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)  # its `fds` stay empty: descriptors are the server's
        self._signs: list[Callable[[], bool]] = []
        self._look: asyncio.TimerHandle | None = None
        self._stopping: set[asyncio.Task[None]] = set()
        self._stopped = False

    def adopt(self, state: AppState, adoption: Adoption, signs: list[Callable[[], bool]]) -> None:
        """Give a stream to its state's hub on this loop."""
        self._signs = self._signs or signs
        chain_signals(_say_goodbye)
        self.hub_of(state).adopt(adoption)
        if self._stopped:
            self.begin_stop()  # the hub may be a new one
        elif self._look is None and self._signs:
            self._look = self.loop.call_later(_LOOK_S, self._look_at_server)

    def begin_stop(self) -> None:
        """End all streams, soon. Safe to repeat."""
        self._stopped = True
        task = self.loop.create_task(self.stop())
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    async def stop(self) -> None:
        """End all streams; those that come now are sent away."""
        self._stopped = True
        if self._look is not None:
            self._look.cancel()
            self._look = None
        await asyncio.gather(*(hub.stop(_STOP_S) for hub in self.hubs))

    def _look_at_server(self) -> None:
        self._look = None
        if any(sign() for sign in self._signs):
            self.begin_stop()
        elif any(hub.stats().streams for hub in self.hubs):
            self._look = self.loop.call_later(_LOOK_S, self._look_at_server)


#: The homes of this process. Each is made on its own loop, so no lock is needed.
_HOMES: dict[asyncio.AbstractEventLoop, AsgiHome] = {}


def home_here() -> AsgiHome:
    """The home of the loop that runs here: one for all applications, however they are wrapped."""
    loop = asyncio.get_running_loop()
    home = _HOMES.get(loop)
    if home is None:
        for other in [each for each in list(_HOMES) if each.is_closed()]:
            _HOMES.pop(other, None)
        home = _HOMES[loop] = AsgiHome(loop)
    return home


def _say_goodbye() -> None:
    for home in list(_HOMES.values()):
        with contextlib.suppress(RuntimeError):  # its loop is closed
            home.loop.call_soon_threadsafe(home.begin_stop)


# ---- children


#: How many streams are on a connection, by its descriptor: HTTP/2 has many on one.
_FDS: Counter[int] = Counter()


@contextlib.contextmanager
def not_for_children(transport: Any) -> Iterator[None]:
    """While a stream is open, a child that is forked shall not keep its connection."""
    fd = -1
    with contextlib.suppress(Exception):  # a transport may be closed, or be something else
        fd = transport.get_extra_info("socket").fileno()
    _FDS[fd] += 1
    try:
        yield
    finally:
        _FDS[fd] -= 1
        if _FDS[fd] <= 0:  # below it in a child
            del _FDS[fd]


def _leave_streams() -> None:
    """In a forked child: the parent's streams are not ours.

    Else their clients would not see the end of them while this child lives. Their descriptors are
    put to another use and not closed: objects of the server have them, which would close what got
    the same number later.
    """
    _HOMES.clear()
    streams = [fd for fd in _FDS if fd >= 0]
    _FDS.clear()
    if streams:
        with contextlib.suppress(OSError):
            nothing = os.open(os.devnull, os.O_RDWR)
            for fd in streams:
                os.dup2(nothing, fd, inheritable=False)
            os.close(nothing)


register_at_fork(after_in_child=_leave_streams)
