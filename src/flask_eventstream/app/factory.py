"""For which application is something registered? An app factory registers for the one it makes.

The extension's object is a module's, and its applications come and go: in a factory a decorator is
told nothing of the application, so this room looks at who called.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import CodeType
from typing import Any

from flask import Flask

__all__ = ["app_at_hand", "code_of"]


def app_at_hand() -> Flask | None:
    """The application that is being made: the only one in the innermost function that has any."""
    frame = sys._getframe(1)  # noqa: SLF001  Python's own way to ask who is calling
    while frame.f_back is not None and frame.f_code.co_name != "<module>":
        names = frame.f_locals
        found = {id(value): value for value in names.values() if issubclass(type(value), Flask)}
        if found:
            return next(iter(found.values())) if len(found) == 1 else None
        frame = frame.f_back
    return None


def code_of(function: Callable[..., Any]) -> CodeType | None:
    """What a function is made of. Each call of a factory makes it anew, of the same code."""
    inner = inspect.unwrap(function)
    return getattr(getattr(inner, "__func__", inner), "__code__", None)
