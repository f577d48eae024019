"""`app.registration`: which applications an EventStream belongs to, and at what address."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask, abort, request

from flask_eventstream import (
    EventStream,
    InvalidConfig,
    sse,
)
from harness.small_apps import an_app, reading


def test_blueprint_style() -> None:
    """Registered as a blueprint the stream has the prefix as its path and `sse.stream` as name."""
    app = an_app()
    events = EventStream()
    app.register_blueprint(events, url_prefix="/live")
    with app.test_request_context():
        assert app.url_for("sse.stream") == "/live"

    with reading(app, "/live") as page:
        with app.app_context():
            events.publish("x")
        page.got("x")


def test_the_ready_made_object() -> None:
    """The `sse` of the package works as it is, on an application of its own."""
    app = an_app()
    app.register_blueprint(sse, url_prefix="/stream")
    with reading(app) as page:
        with app.app_context():
            sse.publish("x", type="t")
        page.got("x")


@pytest.mark.parametrize(
    "register",
    [
        lambda app: app.register_blueprint(EventStream()),
        EventStream,
        lambda app: EventStream().init_app(app),
    ],
)
def test_the_default_path(register: Callable[[Flask], Any]) -> None:
    """Without a prefix, in either style, the stream is at /stream."""
    app = an_app()
    register(app)

    assert app.test_client().head("/stream").status_code == 200


def test_extension_style_with_a_path() -> None:
    """`init_app` takes a path."""
    app = an_app()
    EventStream().init_app(app, url_prefix="/live")

    assert app.test_client().head("/live").status_code == 200


@pytest.mark.parametrize(
    ("parents", "own", "path"),
    [
        ("/api", None, "/api/stream"),
        (None, None, "/stream"),
        ("/api", "/live", "/api/live"),
        ("/api", "", "/api/"),
        (None, "", "/"),
    ],
)
def test_a_blueprint_may_hold_it(parents: str | None, own: str | None, path: str) -> None:
    """Inside another blueprint the stream lies under both prefixes; its own is /stream."""
    app = an_app()
    parent = Blueprint("api", "api", url_prefix=parents)
    parent.register_blueprint(EventStream(), **({} if own is None else {"url_prefix": own}))
    app.register_blueprint(parent)
    with app.test_request_context():
        assert app.url_for("api.sse.stream") == path

    assert app.test_client().head(path).status_code == 200


def test_an_empty_prefix_is_the_root() -> None:
    """An empty prefix puts the stream at the root of the application."""
    app = an_app()
    app.register_blueprint(EventStream(), url_prefix="")

    assert app.test_client().head("/").status_code == 200


def prefix_with_a_variable(app: Flask, events: EventStream) -> None:
    app.register_blueprint(events, url_prefix="/user/<int:uid>/stream")


def parent_with_a_variable(app: Flask, events: EventStream) -> None:
    parent = Blueprint("user", "user", url_prefix="/user/<int:uid>")
    parent.register_blueprint(events)
    app.register_blueprint(parent)


def route_with_a_variable(app: Flask, events: EventStream) -> None:
    app.register_blueprint(events)
    app.add_url_rule("/user/<int:uid>/stream", "own", view_func=events.stream)


@pytest.mark.parametrize(
    "register", [prefix_with_a_variable, parent_with_a_variable, route_with_a_variable]
)
def test_an_address_may_have_variables(register: Callable[[Flask, EventStream], None]) -> None:
    """Variables in the address are for the guards: `request.view_args`."""
    app = an_app()
    events = EventStream()
    register(app, events)

    @events.before_request
    def only_the_third() -> None:
        if request.view_args != {"uid": 3}:
            abort(403)

    client = app.test_client()

    assert client.head("/user/3/stream").status_code == 200
    assert client.head("/user/4/stream").status_code == 403
    assert client.head("/user/x/stream").status_code == 404


@pytest.mark.parametrize(
    "register",
    [
        EventStream,
        lambda app: EventStream().init_app(app),
        lambda app: app.register_blueprint(EventStream()),
        lambda app: app.register_blueprint(sse, url_prefix="/stream"),
    ],
)
@pytest.mark.parametrize(
    ("key", "value"), [("SSE_HEARTBEAT_S", "soon"), ("SSE_BROKER_URL", "mysql://host")]
)
def test_mistakes_show_at_registration(
    register: Callable[[Flask], Any], key: str, value: str
) -> None:
    """In each style a mistake in the settings is found before the first request, and names it."""
    app = an_app(**{key: value})

    with pytest.raises(InvalidConfig, match=f"{key} is '{value}'"):
        register(app)

    assert [rule.rule for rule in app.url_map.iter_rules() if rule.endpoint != "static"] == []


def test_blueprint_style_opens_nothing_at_registration(tmp_path: Path) -> None:
    """Registering makes neither a folder nor a file: the log may be named later."""
    app = Flask("app_under_test", instance_path=str(tmp_path / "instance"))
    app.register_blueprint(EventStream())

    assert list(tmp_path.iterdir()) == []


def test_blueprint_style_reads_it_later() -> None:
    """What is configured after `register_blueprint`, before the first use, counts."""
    app = Flask("app_under_test")
    events = EventStream()
    app.register_blueprint(events)
    app.config.update(SSE_BROKER_URL="memory://", SSE_RETRY_MS=77)
    with reading(app) as page:
        assert page.parser.retry == 77


def test_the_configuration_is_read_once() -> None:
    """What is configured after the first use does not count, and nothing half changes."""
    app = an_app()
    events = EventStream(app)
    app.config["SSE_RETRY_MS"] = 77

    assert events._state(app).config.retry_ms == 3000


# ---- several


def test_one_object_serves_several_applications() -> None:
    """Applications of one process that share the object share no event."""
    events = EventStream()
    first, second = an_app("first"), an_app("second")
    for app in (first, second):
        app.register_blueprint(events)
    with reading(first) as of_first, reading(second) as of_second:
        with first.app_context():
            events.publish("for the first")
        with second.app_context():
            events.publish("for the second")
        of_first.got("for the first")
        of_second.got("for the second")


def test_several_objects_serve_one_application(tmp_path: Path) -> None:
    """Objects of different names have a stream, rules and readers of their own, and one log."""
    app = an_app(SSE_BROKER_URL=f"sqlite:///{tmp_path}/events.db")
    public, private = EventStream(), EventStream(name="private")
    app.register_blueprint(public, url_prefix="/public")
    app.register_blueprint(private, url_prefix="/private")

    @private.before_request
    def nobody() -> None:
        abort(403)

    assert app.test_client().head("/private").status_code == 403

    with reading(app, "/public") as page, app.app_context():
        private.publish("x")
        page.got("x")

        assert public.stats().streams == 1
        assert private.stats().streams == 0


def test_an_application_can_be_forgotten() -> None:
    """The object does not keep an application alive that nobody else holds."""
    events = EventStream()
    app = an_app()
    app.register_blueprint(events)
    with app.app_context():
        events.publish("x")
    gone = weakref.ref(app)
    del app
    gc.collect()

    assert gone() is None


def test_the_state_is_made_once() -> None:
    """Threads that come at the same time all get the one state of their application."""
    app = an_app()
    events = EventStream()
    app.register_blueprint(events)
    found: list[object] = []
    threads = [threading.Thread(target=lambda: found.append(events._state(app))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert len(found) == 8
    assert len(set(map(id, found))) == 1
