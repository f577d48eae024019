"""``GET /stream``: from a request to a response that is an event stream."""

from __future__ import annotations

import functools
from collections.abc import Hashable
from dataclasses import replace
from typing import Any, cast

from flask import Flask, Request, Response

from flask_eventstream.app.asked import address_of, client_id_of, header_of, is_doctor
from flask_eventstream.app.moment import moment_of
from flask_eventstream.app.older_flask import take_back_contexts
from flask_eventstream.app.registry import say_once
from flask_eventstream.app.rights import Right
from flask_eventstream.errors import BrokerUnavailable, InvalidChannel
from flask_eventstream.event import client_id_fault
from flask_eventstream.hub.request import After, Now, Reader, Start, StreamRequest
from flask_eventstream.log.entries import Missed, Over, Standing
from flask_eventstream.servers.wsgi.response import EventStreamResponse, Opening
from flask_eventstream.state import AppState

__all__ = ["check_start", "event_stream", "open_stream"]

#: In ``start=`` of `EventStream.stream`: from now on.
_NOW = "now"

#: What polyfills' ``padding=true`` asks for (Yaffle/EventSource, README).
_PADDING_BYTES = 2048

#: Names in the query that are nearly ours, in lower case, and what was meant. `amp;` comes from an
#: address that was escaped for HTML twice, or never read as HTML.
_MISNAMED = {
    **dict.fromkeys(("channels", "channel[]", "channels[]", "amp;channel"), "channel"),
    **dict.fromkeys(
        (
            *("lasteventid", "last_event_id", "last-event-id", "last_eventid", "lasteventid[]"),
            *("amp;lasteventid", "eventid", "event_id"),
        ),
        "lastEventId",
    ),
    "amp;padding": "padding",
}
_NAMES = frozenset(_MISNAMED.values())


def open_stream(
    app: Flask, state: AppState, request: Request, right: Right, *, start: str | None = None
) -> Response:
    """The response to a request for a stream: 200, 204 to a reader who has seen it all, or 400.

    Args:
        app: The application.
        state: Of the EventStream that serves it.
        request: The request.
        right: What it may read.
        start: Where a reader begins who shows no id: "now", or an id. ``None`` is "now".
    """
    _say_misnamed(app, request)
    begin = _start(request, right, start)
    after = begin.id if isinstance(begin, After) else None
    try:
        standing = _arrive(state, right.channels, after)
    except InvalidChannel as error:
        return app.response_class(f"{error}\n", 400, mimetype="text/plain")
    client_id = client_id_of(request)
    fault = client_id_fault(client_id)
    if fault is not None:
        text = f"client {client_id!r:.60}: {fault}\n"
        return app.response_class(text, 400, mimetype="text/plain")
    if isinstance(standing, Over):
        # The one status that stops an EventSource politely (WHATWG HTML 9.2.3).
        return app.response_class(status=204)
    # Under ASGI the wrapper does not know, and says "several" to be safe.
    several = request.environ.get("wsgi.multiprocess") and "asgi.scope" not in request.environ
    if several and not state.broker.is_shared:
        state.say_once(
            "SSE_BROKER_URL is memory://, and this server runs several processes: readers get only"
            " what their own process publishes; use sqlite:///path"
        )
    asked = StreamRequest(
        right.channels,
        start=begin,
        standing=standing,
        tells_position=_is_browser(request),
        padding_bytes=_padding(request),
        lifetime_s=state.config.stream_lifetime_s,
        reader=_reader(right.reader(address_of(app, state, request)), request, client_id),
    )
    if request.method != "HEAD":
        state.census.prepare()
    opening = Opening(state, asked, diagnosed=is_doctor(app, state, request))
    return event_stream(app, opening)


def _reader(reader: Reader, request: Request, client_id: str) -> Reader:
    """The reader with what the request says of it beside its right."""
    moment = moment_of(request)
    return replace(
        reader,
        client_id=client_id or None,
        decided_at_s=None if moment is None else moment.at_s,
        control_position=None if moment is None else moment.position,
    )


def event_stream(app: Flask, opening: Opening) -> Response:
    """A response of the app's own class that becomes an event stream when the server calls it."""
    if opening.source is not None:
        opening = replace(opening, source=take_back_contexts(opening.source))
    response: Any = _response_class(cast("Hashable", app.response_class))(
        (), mimetype="text/event-stream"
    )
    response.opening = opening
    # Proxies that compress what they may, as development servers do, collect it first (RFC 9111,
    # 5.2.2.6).
    response.headers["Cache-Control"] = "no-store, no-transform"
    response.headers["X-Content-Type-Options"] = "nosniff"
    # nginx would otherwise keep events back until its buffer is full.
    response.headers["X-Accel-Buffering"] = "no"
    made: Response = response
    return made


@functools.lru_cache(maxsize=16)
def _response_class(base: Any) -> type[Response]:
    # Flask turns any other response into the app's class and would lose ours on the way.
    return type("EventStreamResponse", (EventStreamResponse, base), {})


def check_start(start: object) -> None:
    """Refuse what no stream can begin with.

    Raises:
        TypeError: It is no text.
        ValueError: It is empty.
    """
    if start is not None and not isinstance(start, str):
        kind = type(start).__name__
        raise TypeError(f"start is an id as text, 'now' or None, and not {kind} {start!r}")
    if start == "":
        raise ValueError("start is empty: leave it out, or say 'now'")


def _start(request: Request, right: Right, start: str | None) -> Start:
    if not right.history:
        return Now()
    # Who shows an id has read up to there, and comes back.
    after = _last_event_id(request) or right.position or (None if start == _NOW else start)
    return Now() if after is None else After(after)


def _say_misnamed(app: Flask, request: Request) -> None:
    for name in request.args:
        meant = None if name in _NAMES else _MISNAMED.get(name.lower())
        if meant is not None:
            # In lower case, so that nobody can make the log say more than the table has.
            text = f"A stream was asked for with {name.lower()}= (in some capitals) in its query"
            say_once(app, f"{text}, which is not read: write {meant}=")


def _last_event_id(request: Request) -> str | None:
    """Where the client was: the header, else the query (polyfills can't set headers)."""
    return header_of(request, "Last-Event-ID") or request.args.get("lastEventId") or None


def _arrive(state: AppState, channels: tuple[str, ...], after: str | None) -> Standing:
    try:
        return state.broker.arrive(channels, after)
    except BrokerUnavailable:
        return Missed()  # open it: readers wait for the broker, not the other way round


def _is_browser(request: Request) -> bool:
    """True for clients that surely follow the specification.

    A block that only sets the last event ID lets a page that was cut off before its first event
    resume. Some libraries emit an empty event for it (httpx-sse#35), so only browsers get it, and
    whoever asks for it with an empty ``lastEventId=`` in the query.
    """
    return "Mozilla/" in request.headers.get("User-Agent", "") or "lastEventId" in request.args


def _padding(request: Request) -> int:
    asked = request.args.get("padding", "")
    if asked == "true":
        return _PADDING_BYTES
    return int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 6 else 0  # noqa: PLR2004
