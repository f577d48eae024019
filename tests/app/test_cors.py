"""Pages of other origins: who of them may read what a stream's address answers."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask, abort
from flask_cors import CORS
from werkzeug.test import TestResponse

from flask_eventstream import EventStream, InvalidConfig
from flask_eventstream.access.links import Link, sign_link
from harness.hand_server import HandServer

SHOP = "https://shop.example"
EVIL = "https://evil.example"


def an_app(origins: Any = (SHOP,), **config: Any) -> tuple[Flask, EventStream]:
    app = Flask("app_under_test")
    app.config.update(
        {"SSE_BROKER_URL": "memory://", "SECRET_KEY": "key", "SSE_CORS_ORIGINS": origins, **config}
    )
    events = EventStream()
    app.register_blueprint(events)
    events.channel("open")(lambda: True)
    events.channel("abort")(lambda: abort(401))
    app.add_url_rule("/mine", "mine", lambda: events.stream("chosen"))
    app.add_url_rule("/mine/abort", "mine_abort", events.stream)
    return app, events


def ask(
    app: Flask, path: str, origin: str | None = SHOP, method: str = "HEAD", **headers: str
) -> TestResponse:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    if origin is not None:
        given["Origin"] = origin
    return app.test_client().open(path, method=method, headers=given, buffered=False)


def expired_link() -> str:
    link = Link(("open",), 0, 1)
    return f"/stream?grant={sign_link(link, keys=['key'], application='app_under_test')}"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/stream?channel=open", 200),
        ("/stream?channel=closed", 403),
        ("/stream?channel=abort", 401),
        ("/stream?channel=%00", 400),
        ("/stream?grant=forged", 403),
        (expired_link(), 204),
        ("/mine", 200),
        ("/mine/abort?channel=abort", 401),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_whatever_the_answer_is(path: str, status: int, method: str) -> None:
    """The page of a named origin sees each answer, with credentials; no other page sees any."""
    app, _ = an_app()
    seen = ask(app, path, method=method)
    unseen = ask(app, path, EVIL, method=method)
    same = ask(app, path, None, method=method)

    assert [seen.status_code, unseen.status_code, same.status_code] == [status] * 3
    assert seen.headers.getlist("Access-Control-Allow-Origin") == [SHOP]
    assert seen.headers["Access-Control-Allow-Credentials"] == "true"
    for answer in (unseen, same):
        assert not [name for name, _ in answer.headers if name.startswith("Access-Control")]
    for answer in (seen, unseen, same):
        assert answer.headers.getlist("Vary") == ["Origin"]


def test_a_guards_answer_is_seen_too() -> None:
    """What a guard aborts with is seen by the page of a named origin."""
    app, events = an_app()
    events.before_request(lambda: abort(429))

    assert ask(app, "/stream").headers["Access-Control-Allow-Origin"] == SHOP


def test_a_preflight_asks_nobody() -> None:
    """The browser's question is answered before guards, with the headers that programs send."""
    app, events = an_app()
    events.before_request(lambda: abort(401))
    answer = ask(
        app,
        "/stream?channel=closed",
        method="OPTIONS",
        Access_Control_Request_Method="GET",
        Access_Control_Request_Headers="authorization",
    )

    assert answer.status_code == 200
    assert answer.headers["Access-Control-Allow-Origin"] == SHOP
    assert answer.headers["Access-Control-Allow-Methods"] == "GET"
    assert answer.headers["Access-Control-Allow-Headers"] == (
        "Authorization, Last-Event-ID, X-SSE-Client, Cache-Control"
    )
    others = ask(app, "/stream", EVIL, "OPTIONS", Access_Control_Request_Method="GET")
    assert "Access-Control-Allow-Headers" not in others.headers


def test_no_origin_is_allowed_by_default() -> None:
    """Without the setting nothing is said to anybody."""
    app, _ = an_app(None)
    answer = ask(app, "/stream?channel=open")

    assert not [name for name, _ in answer.headers if name.startswith(("Access-", "Vary"))]


def test_a_function_decides() -> None:
    """A function is given the origin, and what it says counts."""
    app, _ = an_app(lambda origin: origin.endswith(".shop.example"))
    inside, outside = "https://a.shop.example", "https://evilshop.example"

    assert ask(app, "/stream?channel=open", inside).headers["Access-Control-Allow-Origin"] == inside
    assert "Access-Control-Allow-Origin" not in ask(app, "/stream?channel=open", outside).headers


def test_a_stream_that_is_handed_off_says_so() -> None:
    """The head that the client gets has the headers, each once."""
    app, _ = an_app()
    with HandServer(app).request("/stream?channel=open", headers={"Origin": SHOP}) as page:
        page.opened()

        assert page.headers["access-control-allow-origin"] == SHOP
        assert page.response.head.lower().count(b"access-control-allow-origin") == 1


@pytest.mark.parametrize("theirs", [[SHOP], [EVIL], "*"])
def test_beside_flask_cors(theirs: Any) -> None:
    """With Flask-CORS on the same application no header is there twice, which browsers refuse."""
    app, _ = an_app()
    CORS(app, origins=theirs, supports_credentials=theirs != "*")
    for path in ("/stream?channel=open", "/stream?channel=closed", "/mine"):
        for method in ("GET", "OPTIONS"):
            answer = ask(app, path, method=method, Access_Control_Request_Method="GET")
            for name in {name for name, _ in answer.headers}:
                if name.startswith("Access-Control"):
                    assert len(answer.headers.getlist(name)) == 1, name


@pytest.mark.parametrize(
    ("origins", "read"),
    [
        ("https://a.example, http://b.example:81", ("https://a.example", "http://b.example:81")),
        (["http://localhost:5173"], ("http://localhost:5173",)),
        ({"http://[::1]:8080"}, ("http://[::1]:8080",)),
        ("capacitor://localhost", ("capacitor://localhost",)),
        ([], ()),
    ],
)
def test_origins_that_can_be(origins: Any, read: tuple[str, ...]) -> None:
    """Lists and text with commas name origins."""
    app, events = an_app(origins)

    assert events._state(app).config.cors_origins == read


@pytest.mark.parametrize(
    ("origins", "why"),
    [
        ("*", "any site"),
        (["https://a.example", "*"], "any site"),
        (["https://a.example/"], "slash at the end"),
        (["https://a.example/page"], "without a path"),
        (["https://A.example"], "lower case"),
        (["a.example"], "such as"),
        (["https://*.example"], "is none"),
        (["null"], "is none"),
        (["https://a.example:443"], "leave out :443"),
        (["http://a.example:80"], "leave out :80"),
        (["https://ä.example"], "is none"),
        (["https://a.example\r\nX: y"], "is none"),
        ([7], "is none"),
        (7, "or a function"),
        (True, "or a function"),
    ],
)
def test_origins_that_can_not_be(origins: Any, why: str) -> None:
    """A setting that would match nothing, or too much, is refused at registration, in words."""
    with pytest.raises(InvalidConfig, match=why) as caught:
        an_app(origins)

    assert "SSE_CORS_ORIGINS" in str(caught.value)
