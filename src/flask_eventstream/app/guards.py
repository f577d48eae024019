"""Guards: the functions that are asked before any stream opens.

A guard is a function that `EventStream.before_request` was given. It runs inside the request and
refuses by aborting, or by returning an answer. Rules of this room:

* Whoever opens a stream asks here first, by whichever route; each guard is asked once in a request.
* In doubt a guard is asked. A guard too many refuses a reader; a guard too few lets one in.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import CodeType
from typing import Any

from flask import Flask, Request

from flask_eventstream.app.factory import app_at_hand, code_of

__all__ = ["Guard", "Guards", "ask"]


@dataclass(frozen=True, slots=True, eq=False)
class Guard:
    """A guard, and where it comes from."""

    function: Callable[[], Any]
    number: int
    """Guards are asked in the order in which they were registered."""
    code: CodeType | None
    """What it is made of. A function inside an app factory is made anew by each call of the
    factory, of the same code."""
    app: weakref.ref[Flask] | None
    """The application whose factory registered it."""


class Guards:
    """The guards of one EventStream, whose applications may each have some of their own.

    A guard is asked in every application of its EventStream. But where a factory registers it anew
    for each application, each application is asked its own: the others look at the settings, the
    database and the users of another application, which may be long gone. An application without
    its own is asked the one that was registered last.
    """

    def __init__(self) -> None:
        self._guards: list[Guard] = []
        self._numbers = itertools.count()

    def add(self, function: Callable[[], Any], belonging: Callable[[Flask], list[Guard]]) -> None:
        """Register a guard. ``belonging`` gives the list of those that belong to an application."""
        if any(guard.function == function for guard in self._guards):
            return  # once in a request is enough
        app, code = app_at_hand(), code_of(function)
        bound = weakref.ref(app) if app is not None and code is not None else None
        guard = Guard(function, next(self._numbers), code, bound)
        if bound is not None and app is not None:
            belonging(app).append(guard)
            self._guards = [each for each in self._guards if not _follows(guard, each)]
        self._guards = [*self._guards, guard]

    def of(self, own: Iterable[Guard]) -> list[Guard]:
        """Those to ask in an application, in their order; ``own`` belong to it."""
        own = list(own)
        others = [
            guard
            for guard in self._guards
            if guard not in own and not any(_follows(each, guard) for each in own)
        ]
        return sorted([*own, *others], key=lambda guard: guard.number)


def ask(app: Flask, request: Request, guards: Iterable[Guard]) -> Any:
    """The first answer that refuses the request a stream, or ``None``. A guard may abort, too."""
    # On the request itself: `g` may outlive it, and so may the environ.
    passed: list[Guard] = vars(request).setdefault("_flask_eventstream_passed", [])
    for guard in guards:
        if guard not in passed:
            answer = app.ensure_sync(guard.function)()
            if answer is not None:
                return answer
            passed.append(guard)
    return None


def _follows(new: Guard, old: Guard) -> bool:
    """True where ``new`` is what ``old`` is, registered for another application."""
    if new.code is not old.code or new.app is None or old.app is None:
        return False
    return new.app() is not old.app()
