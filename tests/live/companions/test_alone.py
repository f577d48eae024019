"""Companions one at a time, and what they do where somebody set them so."""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pytest
from flask import Flask
from flask_compress import Compress
from flask_limiter import Limiter
from flask_login import LoginManager

from flask_eventstream import EventStream
from harness.hand_server import HandServer
from harness.waiting import wait_until

BROWSER = {"Accept-Encoding": "gzip, deflate, br, zstd"}
TOO_MANY = 429


@pytest.fixture
def events() -> EventStream:
    """An extension of the test's own."""
    return EventStream()


@pytest.fixture
def app(events: EventStream) -> Flask:
    """An application with a log in memory and its stream at /stream."""
    app = Flask("app_under_test")
    app.secret_key = "for sessions"
    app.config.update(SSE_BROKER_URL="memory://", SSE_HEARTBEAT_S=0.1)
    app.register_blueprint(events)
    return app


def compress_everything(app: Flask, **settings: object) -> None:
    app.config.update(
        COMPRESS_MIMETYPES=["text/html", "text/event-stream"], COMPRESS_MIN_SIZE=0, **settings
    )
    Compress(app)


class Gzips:
    """Middleware that waits for the whole body and compresses it."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __call__(self, environ: Mapping[str, Any], start_response: Any) -> Iterable[bytes]:
        said: list[Any] = []
        body = gzip.compress(b"".join(self.inner(environ, lambda *head: said.extend(head))))
        status, headers, *_ = said
        more = [("Content-Encoding", "gzip"), ("Content-Length", str(len(body)))]
        start_response(status, [*headers, *more])
        return [body]


def test_flask_compress_told_to_compress_streams(app: Flask, events: EventStream) -> None:
    """Where Flask-Compress is told to compress event streams, they leave as they are."""
    compress_everything(app)
    with HandServer(app).request("/stream", headers=BROWSER) as page:
        page.opened()
        events.publish("hello")
        page.got("hello")

        assert "content-encoding" not in page.headers
        assert "content-length" not in page.headers


def test_flask_compress_and_a_held_stream(app: Flask, events: EventStream) -> None:
    """The same where a stream holds its thread."""
    compress_everything(app, SSE_HANDOFF="off")
    with app.test_client().get("/stream", headers=BROWSER, buffered=False) as response:
        pieces: Iterator[Any] = iter(response.response)
        received = bytearray()
        events.publish("hello")

        def received_hello() -> bool:
            received.extend(next(pieces))
            return b"data: hello\n" in received

        wait_until(received_hello, what="the event")
        assert "Content-Encoding" not in response.headers
        assert "Content-Length" not in response.headers


def test_middleware_that_compresses(app: Flask, events: EventStream) -> None:
    """Middleware that waits for the body has an empty one to wait for; the stream passes it by."""
    with HandServer(Gzips(app)).request("/stream", headers=BROWSER) as page:
        page.opened()
        events.publish("hello")
        page.got("hello")

        assert "content-encoding" not in page.headers


def test_a_limit_does_not_count_a_stream_that_is_exempt(app: Flask, events: EventStream) -> None:
    """`limiter.exempt(sse)` takes the stream out of the limits of an application."""
    limiter = Limiter(lambda: "all", app=app, default_limits=["1/hour"], storage_uri="memory://")
    app.add_url_rule("/page", view_func=lambda: "page")
    client = app.test_client()

    assert [client.get("/page").status_code for _ in range(2)] == [200, TOO_MANY]
    assert [client.head("/stream").status_code for _ in range(2)] == [200, TOO_MANY]
    limiter.exempt(events)
    assert [client.head("/stream").status_code for _ in range(2)] == [200, 200]


def test_flask_login_that_redirects(app: Flask, events: EventStream) -> None:
    """With a `login_view` strangers are redirected unless the stream's blueprint is left out."""
    logins = LoginManager(app)
    logins.user_loader(lambda _: None)
    logins.login_view = "login"
    app.add_url_rule("/login", "login", lambda: "log in")
    events.before_request(logins.unauthorized)
    client = app.test_client()

    assert client.get("/stream").status_code == 302
    logins.blueprint_login_views[events.name] = None
    assert client.get("/stream").status_code == 401
