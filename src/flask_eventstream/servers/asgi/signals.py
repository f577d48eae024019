"""Signs that an ASGI server stops: signals, and what servers show of themselves beside them.

Servers wait for open responses before they say ``lifespan.shutdown``, so whoever holds streams must
hear of it before. What is looked for are attributes, never versions; where they are not found, only
what is said there is missing.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable
from typing import Any

from flask_eventstream.servers.asgi.known import dig

__all__ = ["chain_signals", "find_signs", "stop_handler"]

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class _Chained:
    """A server's own signal handler, with our goodbye before it."""

    def __init__(self, before: Callable[[int, Any], object], goodbye: Callable[[], object]) -> None:
        self.before = before
        self._goodbye = goodbye

    def __call__(self, number: int, frame: Any) -> None:
        self._goodbye()
        self.before(number, frame)


def chain_signals(goodbye: Callable[[], object]) -> None:
    """Call ``goodbye`` at the signals that stop a server, before the server hears of them.

    Done at the first stream: by then every server has set its handlers. Event loops set one, too,
    and learn of signals by a descriptor as before. Off the main thread there are no signals.
    """
    for number in _STOP_SIGNALS:
        before = signal.getsignal(number)
        if callable(before) and not isinstance(before, _Chained):
            with contextlib.suppress(ValueError):
                signal.signal(number, _Chained(before, goodbye))


def stop_handler() -> Any:
    """What the server set for SIGTERM."""
    handler = signal.getsignal(signal.SIGTERM)
    return handler.before if isinstance(handler, _Chained) else handler


def find_signs(receive: Any, send: Any, handler: Any) -> list[Callable[[], bool]]:
    """Ways to ask this server whether it stops, also where no signal says so (``max_requests``).

    ``handler`` is the server's own for SIGTERM.
    """
    signs: list[Callable[[], bool]] = []
    hypercorn = dig(send, "__self__", "context", "terminated", "is_set")
    if hypercorn is not None:
        signs.append(hypercorn)
    gunicorn = dig(receive, "__self__", "protocol", "worker")
    if hasattr(gunicorn, "alive"):
        signs.append(lambda: not gunicorn.alive)
    uvicorn = dig(handler, "__self__")
    if hasattr(uvicorn, "servers"):
        signs.append(lambda: not all(each.is_serving() for each in uvicorn.servers))
    return signs
