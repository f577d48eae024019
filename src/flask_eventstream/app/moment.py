"""When somebody began to decide on a request: noted once, before the first is asked.

So a `disconnect` that comes while they decide ends the stream, too (hub/control.py). On the request
itself: `g` may outlive it, and so may the environ.
"""

from __future__ import annotations

from flask import Request

from flask_eventstream.hub.deciding import Decision
from flask_eventstream.state import AppState

__all__ = ["moment_of", "note_moment"]

_KEPT = "_flask_eventstream_decision"


def note_moment(state: AppState, request: Request) -> None:
    """Somebody is about to be asked, for the first time in this request or not."""
    if _KEPT not in vars(request):
        vars(request)[_KEPT] = state.before_deciding()


def moment_of(request: Request) -> Decision | None:
    """What was noted; ``None`` where nobody decided, and everybody may read."""
    noted: Decision | None = vars(request).get(_KEPT)
    return noted
