"""Threads, locks and exit hooks of the operating system, also where gevent patched Python.

The hub must run beside a worker's greenlets, never among them: as a greenlet it would stand still
whenever a request burns the CPU. Everything here is therefore the unpatched thing, and this is the
only room that asks for it. What is made here must never be waited for by a greenlet for long.
"""

from __future__ import annotations

import _queue
import atexit
import importlib
import itertools
import os
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

__all__ = [
    "Lock",
    "Mailbox",
    "around_fork",
    "at_exit",
    "in_forked_child",
    "is_patched",
    "on_os_thread",
    "open_file_limit",
    "register_at_fork",
    "start_app_thread",
    "start_os_thread",
]

#: ``_queue.SimpleQueue`` is C, reentrant, and not what gevent replaces (it replaces the name in
#: ``queue``). ``get(timeout=…)`` waits without the GIL.
Mailbox = _queue.SimpleQueue


#: The threads of `start_os_thread`, by their numbers.
_OURS: set[int] = set()


def is_patched() -> bool:
    """True where gevent or eventlet replaced Python's threads by greenlets."""
    return _gevent_patched() or _eventlet_patched()


def start_os_thread(target: Callable[[], object]) -> None:
    """Run ``target`` on a thread of the operating system. Returns at once.

    Raises:
        RuntimeError: The system can't start another thread.
    """
    ident = _original("_thread", "get_ident")

    def run() -> None:
        _OURS.add(ident())
        try:
            target()
        finally:
            _OURS.discard(ident())

    _original("_thread", "start_new_thread")(run, ())


def on_os_thread() -> bool:
    """True on a thread that `start_os_thread` started: no code of an application runs there."""
    return _original("_thread", "get_ident")() in _OURS


def start_app_thread(target: Callable[[], object], *, name: str = "flask-eventstream") -> None:
    """Run ``target``, an application's own code, on a thread like the server's own.

    That is a greenlet where those are greenlets. Returns at once; the process does not wait for it.

    Raises:
        RuntimeError: The system can't start another thread.
    """
    threading.Thread(target=target, name=name, daemon=True).start()


def Lock() -> Any:  # noqa: N802  stands where threading.Lock would
    """A lock between threads of the operating system. Hold it for microseconds."""
    return _original("_thread", "allocate_lock")()


def at_exit(callback: Callable[[], object]) -> None:
    """Call ``callback`` when this process ends by itself, before pool threads are waited for.

    Plain ``atexit`` runs after ``concurrent.futures`` joined its threads, and a pool thread that
    never ends keeps a gunicorn worker alive for ever. ``threading._register_atexit`` runs before;
    it is private, so both are used, and ``callback`` must bear a second call.
    """
    atexit.register(callback)
    early = getattr(threading, "_register_atexit", None)
    if early is not None:
        early(callback)


def register_at_fork(**hooks: Callable[[], object]) -> None:
    """``os.register_at_fork``, where there are forks."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(**hooks)


def in_forked_child(method: Callable[[], object]) -> None:
    """Call a bound ``method`` in each child that this process forks, while its object lives."""
    _FORKS.add(in_child=method)


def around_fork(
    *,
    before: Callable[[], object],
    in_parent: Callable[[], object],
    in_child: Callable[[], object],
) -> None:
    """Call bound methods around each fork of this process, while their object lives."""
    _FORKS.add(before=before, in_parent=in_parent, in_child=in_child)


class _Forks:
    """The hooks of objects that live.

    The system forgets no hook, so it has three, these, and they forget: 20,000 objects that came
    and went would else cost 2.6 KB each for ever, and each fork a tenth of a second.
    """

    def __init__(self) -> None:
        self._hooks: dict[int, tuple[weakref.ref[Any], dict[str, Any]]] = {}
        self._numbers = itertools.count()
        register_at_fork(
            before=lambda: self._call("before", reverse=True),
            after_in_parent=lambda: self._call("in_parent"),
            after_in_child=lambda: self._call("in_child"),
        )

    def add(self, **methods: Any) -> None:
        """Bound methods of one object."""
        number = next(self._numbers)
        owner = next(iter(methods.values())).__self__

        def forget(_: object) -> None:
            self._hooks.pop(number, None)

        functions = {when: method.__func__ for when, method in methods.items()}
        self._hooks[number] = weakref.ref(owner, forget), functions

    def _call(self, when: str, *, reverse: bool = False) -> None:
        hooks = list(self._hooks.values())
        for reference, functions in reversed(hooks) if reverse else hooks:
            owner = reference()
            if owner is not None and when in functions:
                functions[when](owner)


def _gevent_patched() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("_thread"))


def _eventlet_patched() -> bool:
    # Not is_monkey_patched("_thread"): eventlet knows the module as "thread" and says False.
    patcher = sys.modules.get("eventlet.patcher")
    return patcher is not None and bool(patcher.already_patched)


def _original(module: str, name: str) -> Any:
    if _gevent_patched():
        return sys.modules["gevent.monkey"].get_original(module, name)
    if _eventlet_patched():
        return getattr(sys.modules["eventlet.patcher"].original(module), name)
    return getattr(importlib.import_module(module), name)


def open_file_limit() -> int:
    """How many descriptors this process may have."""
    try:
        import resource  # noqa: PLC0415  Windows has none
    except ImportError:
        return 8192
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return soft if soft != resource.RLIM_INFINITY else 1_000_000


_FORKS = _Forks()
