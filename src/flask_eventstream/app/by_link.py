"""What the link in a request's query grants: ``?grant=TOKEN``.

Whoever has a token may read what stands in it. So none is ever logged, nor shown in an answer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection

from flask import Flask, Request, Response

from flask_eventstream.access.links import QUERY, Link, read_link
from flask_eventstream.brokers import HasRecords
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.state import AppState

__all__ = ["keys_of", "link_asked"]

_LOGGER = logging.getLogger("flask_eventstream")

#: The name of the record that says that a link was opened in its time.
_OPENED = "opened-"


def keys_of(app: Flask) -> list[str | bytes]:
    """What an application signs with, the newest last; nothing where it has no key."""
    # Flask before 3.1.1 had them the other way round, and signed with the oldest.
    fallbacks = app.config.get("SECRET_KEY_FALLBACKS") or ()
    return [*fallbacks, app.secret_key] if app.secret_key else []


def link_asked(app: Flask, state: AppState, request: Request) -> Link | Response | None:
    """The link of a request, or what refuses it; ``None`` where there is no link at all."""
    tokens = request.args.getlist(QUERY)
    if not tokens:
        return None
    keys = keys_of(app)
    link = read_link(tokens[0], keys=keys, application=app.name) if keys else None
    if link is None or len(tokens) > 1:
        why = "a stream has one link" if link else "the link is none of this application"
        return _refuse(app, why, ())
    others = {name for name in request.args.getlist("channel") if name} - set(link.channels)
    if others:
        return _refuse(app, f"channel {min(others)!r}: the link is for others", link.channels)
    now = time.time()
    if link.until <= now:
        return app.response_class(status=204)  # an EventSource stops, and says nothing
    try:
        why_void = _why_void(state, link, now=now, opens=request.method != "HEAD")
    except BrokerUnavailable as error:
        _LOGGER.warning("Whether a link of %s is good can't be looked up: %s", link.channels, error)
        # Nobody gets in, and a page comes back: any other status would end it for good.
        body = state.admission.come_back()
        return app.response_class(body, mimetype="text/event-stream")
    return link if why_void is None else _refuse(app, why_void, link.channels)


def _why_void(state: AppState, link: Link, *, now: float, opens: bool) -> str | None:
    if link.subject is not None and state.is_revoked(link.subject, link.issued_at):
        return "the link was revoked"
    if link.open_until is None or link.name is None:
        return None
    broker = state.broker
    if not isinstance(broker, HasRecords):
        return "this application can't remember that a link was opened"
    if broker.recall(_OPENED + link.name) is not None:
        return None  # its reader comes back
    if link.open_until <= now:
        return "the link was not opened in time"
    if opens:  # whoever asks with HEAD gets no stream
        broker.remember(_OPENED + link.name, "1", for_s=link.until - now)
    return None


def _refuse(app: Flask, why: str, channels: Collection[str]) -> Response:
    _LOGGER.info("A stream of a link%s was refused: %s", f" of {channels}" if channels else "", why)
    return app.response_class(f"{why}\n", 403, mimetype="text/plain")
