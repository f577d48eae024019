"""``GET /stream``: from a request to a response that is an event stream."""

from __future__ import annotations

import functools
import time
from collections.abc import Hashable
from dataclasses import replace
from typing import Any, cast

from flask import Flask, Request, Response

from flask_eventstream.access.ticket import HEADER, is_good
from flask_eventstream.app.older_flask import take_back_contexts
from flask_eventstream.app.registry import say_once
from flask_eventstream.brokers import check_channel
from flask_eventstream.errors import BrokerUnavailable, InvalidChannel
from flask_eventstream.hub.request import After, Now, Reader, StreamRequest
from flask_eventstream.log.entries import Missed, Over, Standing
from flask_eventstream.servers.wsgi.response import EventStreamResponse, Opening
from flask_eventstream.state import AppState

__all__ = ["address_of", "event_stream", "keep_out_of_caches", "open_stream"]

#: How the older extensions name the channel of a stream that names none.
_DEFAULT_CHANNEL = "sse"

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

#: What a request may be, beside its channels: a link, a last event ID of its own, and each of them
#: with room to spare. Servers bound it, too, but each differently.
_QUERY_BYTES = 16 * 1024
_LAST_EVENT_ID_BYTES = 1024

#: What a channel adds to it: a name of 200 bytes, of which each is percent-encoded; a position.
_NAME_IN_QUERY_BYTES = 640
_POSITION_BYTES = 32


def open_stream(app: Flask, state: AppState, request: Request) -> Response:
    """The response to a request for a stream: 200, 204 to a reader who has seen it all, or 400."""
    too_long = _why_too_long(state, request)
    if too_long is not None:
        return app.response_class(f"{too_long}\n", 400, mimetype="text/plain")
    after = _last_event_id(request)
    _say_misnamed(app, request)
    try:
        channels = _channels(request)
        state.admission.check_channels(len(channels))
        standing = _arrive(state, channels, after)
    except InvalidChannel as error:
        return app.response_class(f"{error}\n", 400, mimetype="text/plain")
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
        channels,
        start=Now() if after is None else After(after),
        standing=standing,
        tells_position=_is_browser(request),
        padding_bytes=_padding(request),
        lifetime_s=state.config.stream_lifetime_s,
        reader=Reader(address=address_of(app, state, request)),
    )
    opening = Opening(state, asked, diagnosed=_is_doctor(app, state, request))
    return event_stream(app, opening)


def address_of(app: Flask, state: AppState, request: Request) -> str | None:
    """Where the client is, for its limits."""
    address = request.remote_addr or None
    if state.config.max_streams_per_address is not None:
        if address is None:
            say_once(
                app,
                "SSE_MAX_STREAMS_PER_ADDRESS bounds nothing: the server names no address of its"
                " clients, as on a Unix socket. Behind a proxy, add werkzeug's ProxyFix",
            )
        elif address not in request.headers.get("X-Forwarded-For", address):
            say_once(
                app,
                "SSE_MAX_STREAMS_PER_ADDRESS counts a proxy's streams, not a client's: a request"
                " has X-Forwarded-For, which is not read. Add werkzeug's ProxyFix",
            )
    return address


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


def keep_out_of_caches(response: Response) -> Response:
    """Let nobody store an answer: a 204 or a 404 of yesterday ends an EventSource for good."""
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    return response


@functools.lru_cache(maxsize=16)
def _response_class(base: Any) -> type[Response]:
    # Flask turns any other response into the app's class and would lose ours on the way.
    return type("EventStreamResponse", (EventStreamResponse, base), {})


def _why_too_long(state: AppState, request: Request) -> str | None:
    """Before anything is read of it: what nobody needs costs nothing."""
    channels = state.config.max_channels
    sizes = {
        "the query": (len(request.query_string), _QUERY_BYTES + channels * _NAME_IN_QUERY_BYTES),
        "Last-Event-ID": (
            len(request.headers.get("Last-Event-ID", "")),
            _LAST_EVENT_ID_BYTES + channels * _POSITION_BYTES,
        ),
    }
    for what, (size_bytes, most) in sizes.items():
        if size_bytes > most:
            return f"{what} has {size_bytes} bytes, more than {most}: no event stream needs that"
    return None


def _channels(request: Request) -> tuple[str, ...]:
    # "?channel=" means the default, as it did in the older extension.
    names = {check_channel(name) for name in request.args.getlist("channel") if name}
    return tuple(sorted(names)) or (_DEFAULT_CHANNEL,)


def _say_misnamed(app: Flask, request: Request) -> None:
    for name in request.args:
        meant = None if name in _NAMES else _MISNAMED.get(name.lower())
        if meant is not None:
            # In lower case, so that nobody can make the log say more than the table has.
            text = f"A stream was asked for with {name.lower()}= (in some capitals) in its query"
            say_once(app, f"{text}, which is not read: write {meant}=")


def _last_event_id(request: Request) -> str | None:
    """Where the client was: the header, else the query (polyfills can't set headers)."""
    header = request.headers.get("Last-Event-ID")
    if header:
        # Browsers send UTF-8 (WHATWG HTML 9.2.3); WSGI hands header bytes out as Latin-1.
        return header.encode("latin-1").decode("utf-8", "replace")
    return request.args.get("lastEventId") or None


def _arrive(state: AppState, channels: tuple[str, ...], after: str | None) -> Standing:
    try:
        return state.broker.arrive(channels, after)
    except BrokerUnavailable:
        return Missed()  # open it: readers wait for the broker, not the other way round


def _is_over(state: AppState, channel: str) -> bool:
    return isinstance(_arrive(state, (channel,), None), Over)


def _is_doctor(app: Flask, state: AppState, request: Request) -> bool:
    shown = request.headers.get(HEADER)
    return shown is not None and is_good(
        shown,
        key=app.secret_key,
        now_s=time.time(),
        has_ended=lambda ticket: _is_over(state, ticket),
    )


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
