"""The one hub thread of a process: started late, replaced after a fork, stopped before the end.

A real thread with an event loop of its own, also where the worker runs greenlets. It is started by
the first stream, never by an import: a server that forks after loading the application would
otherwise leave its children with a thread that is not there.
"""

from __future__ import annotations

import _socket
import asyncio
import contextlib
import contextvars
import logging
import os
from collections.abc import Callable
from typing import Any

from flask_eventstream.hub.admission import Refusal, Refused
from flask_eventstream.hub.adoption import Adoption
from flask_eventstream.hub.home import Home, Tenant
from flask_eventstream.process import Lock, at_exit, is_patched, register_at_fork, start_os_thread
from flask_eventstream.worker import WORKER

__all__ = ["HubThread", "can_run", "hub_thread"]

_LOGGER = logging.getLogger("flask_eventstream")

#: Seconds for the loop to begin, and for all streams to be closed at the end. A server's own
#: patience at shutdown is 30 s (gunicorn); a client that takes nothing must not use it up.
_START_S = 10.0
_STOP_S = 1.0

#: Descriptors that a new loop needs. libuv 1.51 with io_uring opens eight.
_LOOP_FILES = 16

try:
    import uvloop
except ImportError:  # Windows, PyPy
    _new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    _HAS_UVLOOP = False
else:
    # Each send() of Python's own loop gives the interpreter lock away: beside a CPU-bound request
    # a fan-out to 1,000 streams took 1.3 s with it, 14 ms with uvloop.
    _new_loop = uvloop.new_event_loop
    _HAS_UVLOOP = True


class HubThread(Home):
    """The hub thread of this process. Any thread may call it."""

    def __init__(self) -> None:
        if os.name == "posix":
            _check_descriptors()
        super().__init__(_new_loop())
        self.loop.set_exception_handler(_complain)
        self._stopped = False
        started, self._ended = Lock(), Lock()
        started.acquire()
        self._ended.acquire()
        try:
            start_os_thread(lambda: self._run(started))
        except RuntimeError as error:
            self.loop.close()
            raise Refused(Refusal.NO_THREAD, f"{error}: raise the limit on threads") from error
        if not started.acquire(timeout=_START_S):
            text = f"the hub thread did not begin within {_START_S:g} s"
            raise Refused(Refusal.NO_THREAD, text)

    def give(self, tenant: Tenant, adoption: Adoption) -> None:
        """Give a stream to the application's hub here.

        Raises:
            Refused: The process is going down.
        """
        self.call(self._take, tenant, adoption)

    def _take(self, tenant: Tenant, adoption: Adoption) -> None:
        self.hub_of(tenant).adopt(adoption)

    def call(self, callback: Callable[..., object], *args: object) -> None:
        """Run ``callback`` on the hub thread, soon.

        In an empty context: a copy of the caller's would live as long as whatever the callback
        starts, and with it the whole request (8.0 KB per stream instead of 1.6).

        Raises:
            Refused: The process is going down.
        """
        self.check()
        self.loop.call_soon_threadsafe(callback, *args, context=contextvars.Context())

    def check(self) -> None:
        """Find out in time, before anything was changed.

        Raises:
            Refused: The process is going down.
        """
        if self._stopped:
            text = "the hub thread was stopped: the process is going down"
            raise Refused(Refusal.STOPPING, text)

    def stop(self) -> None:
        """Say goodbye to every stream and end the thread. Blocks for at most a second or two."""
        if not self._stopped:
            self._stopped = True
            self.loop.call_soon_threadsafe(self._stop, context=contextvars.Context())
            self._ended.acquire(timeout=2 * _STOP_S)

    def _run(self, started: Any) -> None:
        loop = self.loop
        loop.call_soon(started.release)
        try:
            loop.run_forever()
            loop.close()
        finally:
            self._ended.release()

    def _stop(self) -> None:
        self._stopping = self.loop.create_task(self._stop_hubs())

    async def _stop_hubs(self) -> None:
        await asyncio.gather(*(hub.stop(_STOP_S) for hub in self.hubs))
        # A loop that is closed over them would complain of tasks that still clear up.
        left = asyncio.all_tasks() - {self._stopping}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_STOP_S)
        self.loop.stop()


def _complain(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # asyncio's own logger would run the application's handlers on this thread.
    _LOGGER.error("In the hub: %s", context["message"], exc_info=context.get("exception"))


def _check_descriptors() -> None:
    """Raise an OSError (EMFILE) where a loop would not find the descriptors that it needs.

    libuv does not raise: it aborts the whole process, and with it a server's worker.
    """
    taken: list[_socket.socket] = []
    try:
        while len(taken) < _LOOP_FILES:
            taken += _socket.socketpair()
    finally:
        for each in taken:
            each.close()  # dropped unclosed, each would be a ResourceWarning


class _Current:
    """The hub thread of this process, if it has one yet."""

    def __init__(self) -> None:
        self.lock = Lock()
        self.thread: HubThread | None = None
        self.inherited: list[HubThread] = []
        register_at_fork(after_in_child=self.begin_anew)
        at_exit(self.stop)

    def begin_anew(self) -> None:
        """In a forked child: the parent's streams are not ours, and its thread is not here."""
        self.lock = Lock()
        if self.thread is not None:
            for fd in self.thread.fds:
                # Or the clients would not see the end of their streams while this child lives.
                # The loop must not close them: it shares its epoll set with the parent's.
                # And os.close is gevent's where it patched: it waits for a greenlet loop to turn.
                with contextlib.suppress(OSError):
                    _socket.close(fd)
            self.inherited.append(self.thread)  # for ever: its destructors would reach the parent
            self.thread = None

    def stop(self) -> None:
        """At exit. A second call finds it stopped."""
        if self.thread is not None:
            self.thread.stop()


_CURRENT = _Current()


def hub_thread() -> HubThread:
    """The hub thread of this process; started by the first call.

    Raises:
        Refused: The system can't start another thread, or the process is going down.
    """
    if _CURRENT.thread is None:
        # Not under the lock: to start a greenlet gives others their turn, and one that waited for
        # this lock would stop them all.
        WORKER.prepare()
    with _CURRENT.lock:
        if _CURRENT.thread is None:
            _CURRENT.thread = HubThread()
        _CURRENT.thread.check()
        return _CURRENT.thread


def can_run() -> bool:
    """True where a hub thread can run beside this process's own threads or greenlets.

    Python's own event loop is built on modules that gevent and eventlet patch; uvloop is not.
    """
    return _HAS_UVLOOP or not is_patched()
