"""The one thread for an application's own code that no request waits for.

Callbacks at a stream's end and log handlers are the application's: they may wait, raise or publish,
so they never run on a thread of ours. They are posted here and run one after the other, on a thread
as the server's own are, a greenlet where those are greenlets.
"""

from __future__ import annotations

import _socket
import contextlib
import functools
import logging
import socket
import time
from collections import deque
from collections.abc import Callable

from flask_eventstream.process import (
    Lock,
    at_exit,
    in_forked_child,
    is_patched,
    on_os_thread,
    start_app_thread,
)

__all__ = ["WORKER", "Worker"]

_LOGGER = logging.getLogger("flask_eventstream")

#: Seconds for what was posted to be done when the process ends. Servers kill their workers after
#: ten (Docker's stop) or thirty (gunicorn).
_FINISH_S = 5.0
_LOOK_S = 0.005

_WAKE_BYTES = 4096

Task = Callable[[], object]


class Worker:
    """Runs what is posted, in order. Any thread may post; it never blocks."""

    def __init__(self) -> None:
        self._tasks: deque[Task] = deque()
        self._lock = Lock()
        self._running = False
        """True while a thread takes from the tasks."""
        self._bell: _socket.socket | None = None
        """Rung where a greenlet does the work: no thread of ours could start one."""
        in_forked_child(self._begin_anew)
        at_exit(self.finish)

    def prepare(self) -> None:
        """On a thread of the application, before anything can be posted by one of ours."""
        for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
            _LOGGER.isEnabledFor(level)  # remembered: asking takes a lock, which may be patched
        with self._lock:
            if self._bell is not None or not is_patched():
                return
            ears, bell = socket.socketpair()
            ears.settimeout(None)  # whatever socket.setdefaulttimeout was told
            self._bell = _socket.socket(fileno=bell.detach())
            self._bell.settimeout(0)
        start_app_thread(functools.partial(self._listen, ears))

    def post(self, task: Task) -> None:
        """Let ``task`` run soon. What it raises is logged."""
        self._tasks.append(task)
        if self._bell is not None:
            with contextlib.suppress(OSError):  # it is full of wake-ups already
                self._bell.send(b"\0")
        elif not is_patched():
            # Where no thread can be had now, the next post tries again, and the end at last.
            self._start()

    def finish(self, within_s: float = _FINISH_S) -> None:
        """Wait until all that was posted is done. On a thread of the application.

        Where no thread can be had any more it is done on this one.
        """
        if self._tasks and self._bell is None and not self._start():
            self._run()
        deadline_s = time.monotonic() + within_s
        while (self._tasks or self._running) and time.monotonic() < deadline_s:
            time.sleep(_LOOK_S)  # patched where greenlets are, which then have their turn

    def _start(self) -> bool:
        with self._lock:
            if self._running:
                return True
            self._running = True
        try:
            start_app_thread(self._run)
        except RuntimeError:
            self._running = False
            return False
        return True

    def _listen(self, ears: socket.socket) -> None:
        while ears.recv(_WAKE_BYTES):
            self._run()

    def _run(self) -> None:
        self._running = True
        try:
            while self._has_more():
                task = self._tasks.popleft()
                try:
                    task()
                except Exception:
                    _LOGGER.exception("What the application wanted called raised")
        finally:
            self._running = False

    def _has_more(self) -> bool:
        with self._lock:
            self._running = bool(self._tasks)
            return self._running

    def _begin_anew(self) -> None:
        """In a forked child: the parent does what was posted there."""
        self._tasks = deque()
        self._lock = Lock()
        self._running = False
        self._bell = None


class _OffOurThreads(logging.Filter):
    """Lets handlers run on the worker for what our own threads log."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not on_os_thread():
            return True
        WORKER.post(functools.partial(_LOGGER.callHandlers, record))
        return False


#: This process's.
WORKER = Worker()
_LOGGER.addFilter(_OffOurThreads())
