"""What a request for a stream says: its channels, its size, who sends it, and from where."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence

from flask import Flask, Request

from flask_eventstream.access.ticket import HEADER, is_good
from flask_eventstream.app.registry import say_once
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.log.entries import Over
from flask_eventstream.state import AppState

__all__ = [
    "address_of",
    "channels_asked",
    "client_id_of",
    "header_of",
    "is_doctor",
    "page_of",
    "why_too_long",
]

#: How the older extensions name the channel of a stream that names none.
_DEFAULT_CHANNEL = "sse"

#: What a request may be, beside its channels: a link, a last event ID of its own, and each of them
#: with room to spare. Servers bound it, too, but each differently.
_QUERY_BYTES = 16 * 1024
_LAST_EVENT_ID_BYTES = 1024

#: What a channel adds to it: a name of 200 bytes, of which each is percent-encoded; a position.
_NAME_IN_QUERY_BYTES = 640
_POSITION_BYTES = 32


def channels_asked(request: Request) -> Sequence[str]:
    """The channels that the query names, as they stand there."""
    # "?channel=" means the default, as it did in the older extension.
    return [name for name in request.args.getlist("channel") if name] or (_DEFAULT_CHANNEL,)


def page_of(request: Request) -> str:
    """What the page calls itself that makes a request of its own; empty where it has no name."""
    return header_of(request, "X-SSE-Client")


def client_id_of(request: Request) -> str:
    """What the page of a stream calls itself: an EventSource can't set headers."""
    return request.args.get("client") or page_of(request)


def header_of(request: Request, name: str) -> str:
    """A header as text; empty where there is none."""
    # Browsers send UTF-8 (WHATWG HTML 9.2.3); WSGI hands header bytes out as Latin-1.
    return request.headers.get(name, "").encode("latin-1").decode("utf-8", "replace")


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


def why_too_long(state: AppState, request: Request) -> str | None:
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


def is_doctor(app: Flask, state: AppState, request: Request) -> bool:
    """True where the request has a ticket that only the application's owner can have."""
    shown = request.headers.get(HEADER)
    return shown is not None and is_good(
        shown,
        key=app.secret_key,
        now_s=time.time(),
        has_ended=lambda ticket: _is_over(state, ticket),
    )


def _is_over(state: AppState, channel: str) -> bool:
    with contextlib.suppress(BrokerUnavailable):
        return isinstance(state.broker.arrive((channel,), None), Over)
    return False
