"""`app.asked`: what a request for a stream says."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from flask_eventstream import EventStream
from flask_eventstream.app.asked import (
    address_of,
    channels_asked,
    client_id_of,
    header_of,
    page_of,
    why_too_long,
)
from harness.small_apps import an_app


def request(path: str = "/stream", **more: Any) -> Request:
    return Request(EnvironBuilder(path, **more).get_environ())


@pytest.mark.parametrize(
    ("query", "channels"),
    [
        ("", ["sse"]),
        ("?channel=", ["sse"]),
        ("?channel=a", ["a"]),
        ("?channel=b&channel=&channel=a", ["b", "a"]),
    ],
)
def test_channels_stand_as_they_were_asked(query: str, channels: list[str]) -> None:
    """The query's channels come in its order; a query without one means the default."""
    assert list(channels_asked(request(f"/stream{query}"))) == channels


def test_a_page_is_named_by_query_or_header() -> None:
    """A stream's query names its page before the header does; other requests have the header."""
    both = request("/stream?client=query", headers={"X-SSE-Client": "header"})
    one = request(headers={"X-SSE-Client": "header"})

    assert (client_id_of(both), page_of(both)) == ("query", "header")
    assert client_id_of(one) == "header"
    assert client_id_of(request()) == ""


def test_a_header_is_utf_8() -> None:
    """What a browser sent as UTF-8 is that text again; broken bytes are marked, not refused."""
    environ = EnvironBuilder("/").get_environ()
    environ["HTTP_LAST_EVENT_ID"] = "☃".encode().decode("latin-1")
    environ["HTTP_X_SSE_CLIENT"] = "\xff"

    assert header_of(Request(environ), "Last-Event-ID") == "☃"
    assert header_of(Request(environ), "X-SSE-Client") == "\ufffd"


@pytest.mark.parametrize(
    ("remote", "headers", "warning"),
    [
        ("", {}, "names no address"),
        ("10.0.0.1", {"X-Forwarded-For": "192.0.2.1"}, "counts a proxy's streams"),
        ("192.0.2.1", {"X-Forwarded-For": "192.0.2.1"}, None),
        ("192.0.2.1", {}, None),
    ],
)
@pytest.mark.parametrize("bound", [None, 5])
def test_an_address_that_is_no_client_s_is_said(
    remote: str,
    headers: dict[str, str],
    warning: str | None,
    bound: int | None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where streams of an address are bounded, one that can't be the client's is warned of."""
    app = an_app(SSE_MAX_STREAMS_PER_ADDRESS=bound)
    state = EventStream(app)._state(app)
    asked = request(headers=headers, environ_base={"REMOTE_ADDR": remote})

    with caplog.at_level(logging.WARNING, "flask_eventstream"):
        assert address_of(app, state, asked) == (remote or None)

    assert (warning in caplog.text) if warning and bound else not caplog.records


@pytest.mark.parametrize(
    ("more", "what"),
    [
        ({"query_string": "channel=a"}, None),
        ({"query_string": "x" * 1_000_000}, "the query has 1000000 bytes"),
        ({"headers": {"Last-Event-ID": "x" * 1_000_000}}, "Last-Event-ID has 1000000 bytes"),
    ],
)
def test_what_nobody_needs_is_too_long(more: dict[str, Any], what: str | None) -> None:
    """A query or an id that no stream can mean is refused by name and size."""
    app = an_app()
    why = why_too_long(EventStream(app)._state(app), request(**more))

    assert (why or "").startswith(what or "")
    assert (why is None) == (what is None)
