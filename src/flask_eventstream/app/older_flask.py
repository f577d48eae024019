"""What Flask before 3.1.2 needs, and nothing else: this room goes when that Flask does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flask.globals import app_ctx

__all__ = ["take_back_contexts"]


def take_back_contexts(source: Iterable[object]) -> Iterable[object]:
    """Let what `flask.stream_with_context` made run on another thread; anything else as it is.

    Before Flask 3.1.2 (pallets/flask#5774) it pushes the request's contexts at once, on the
    request's own thread, and only there it can pop them. On a thread of ours it would find no
    request, and the worker's thread would keep this one: what teardown frees would stay in use, and
    the next requests of that thread would share its ``g``. So it is closed here, and its iterable
    is run as newer Flask runs it.
    """
    frame = getattr(source, "gi_frame", None)
    if frame is None or frame.f_globals.get("__name__") != "flask.helpers":
        return source
    names = frame.f_locals
    if "ctx" not in names:  # newer Flask, which calls it `req_ctx`, and has pushed nothing yet
        return source
    contexts: Any = (app_ctx._get_current_object(), names["ctx"])  # type: ignore[attr-defined]  # noqa: SLF001
    lent: Iterable[object] = _with_contexts(names["gen"], *contexts)
    source.close()  # type: ignore[attr-defined]  # a generator
    return lent


def _with_contexts(source: Iterable[object], app_context: Any, request_context: Any) -> Any:
    with app_context, request_context:
        yield from source
