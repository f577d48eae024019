"""EventStream on applications: registration, access rules, publishing, configuration."""

from __future__ import annotations

import datetime as dt
import gc
import json
import stat
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, abort, request
from flask.json.provider import DefaultJSONProvider

from flask_eventstream import (
    Event,
    EventStream,
    EventTooLarge,
    InvalidChannel,
    InvalidConfig,
    InvalidEvent,
    Publisher,
    sse,
)
from flask_eventstream.app.settings import state_of
from flask_eventstream.brokers.memory import MemoryBroker
from flask_eventstream.hub.hub import Stats
from harness.hand_server import HandServer, Page


def an_app(name: str = "app_under_test", **config: Any) -> Flask:
    app = Flask(name)
    app.config.update({"SSE_BROKER_URL": "memory://", **config})
    return app


def reading(app: Flask, path: str = "/stream", **headers: str) -> Page:
    return HandServer(app).request(path, headers=headers).opened()


# ---- registration


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


# ---- access rules


def deny() -> Response:
    return Response("not for you", 403)


@pytest.mark.parametrize("order", ["before", "after", "after a request"])
def test_a_rule_may_come_at_any_time(order: str) -> None:
    """A rule that is registered before or after the blueprint, or even later, is asked."""
    app = an_app()
    events = EventStream()
    client = app.test_client()
    if order == "before":
        events.before_request(deny)
    app.register_blueprint(events)
    if order == "after":
        events.before_request(deny)
    if order == "after a request":
        assert client.head("/stream").status_code == 200

        events.before_request(deny)
    response = client.get("/stream")

    assert (response.status_code, response.text) == (403, "not for you")


def test_rules_are_asked_in_turn() -> None:
    """Rules are asked in their order; the first answer is the answer."""
    asked: list[str] = []
    events = EventStream(an_app())

    @events.before_request
    def first() -> None:
        asked.append("first")

    @events.before_request
    def second() -> str:
        asked.append("second")
        return "no stream"

    @events.before_request
    def third() -> None:
        asked.append("third")

    app = an_app()
    app.register_blueprint(events)

    assert app.test_client().get("/stream").text == "no stream"
    assert asked == ["first", "second"]


def test_a_rule_sees_the_request() -> None:
    """A rule decides by the channels of the request."""
    app = an_app()
    events = EventStream()
    app.register_blueprint(events)

    @events.before_request
    def only_own() -> None:
        if "logs" in request.args.getlist("channel"):
            abort(403)

    client = app.test_client()

    assert client.head("/stream?channel=sse").status_code == 200
    assert client.head("/stream?channel=sse&channel=logs").status_code == 403


def test_a_rule_is_asked_before_anything_else() -> None:
    """Who may not read learns nothing of channels, not even that a name is bad."""
    app = an_app()
    events = EventStream()
    app.register_blueprint(events)
    events.before_request(deny)

    assert app.test_client().get("/stream?channel=%00").status_code == 403


def test_rules_are_for_streams_alone() -> None:
    """Other views of the application are not asked for."""
    app = an_app()
    events = EventStream()
    app.register_blueprint(events)
    app.add_url_rule("/", "index", lambda: "welcome")
    events.before_request(deny)

    assert app.test_client().get("/").text == "welcome"


def test_a_rule_keeps_its_name() -> None:
    """`before_request` is a decorator that leaves the function as it is."""
    assert EventStream().before_request(deny) is deny


# ---- publishing


def test_publish_gives_the_id() -> None:
    """The id that `publish` returns is the one that readers get."""
    app = an_app()
    events = EventStream(app)
    with reading(app) as page:
        given = [events.publish("a"), events.publish("b", id="own"), events.publish("c", None, 5)]
        page.got("a", "b", "c")

        assert [event["id"] for event in page.events] == given
        assert given[1:] == ["own", "5"]


def test_publish_takes_a_whole_event() -> None:
    """An `Event` is published complete."""
    app = an_app()
    events = EventStream(app)
    with reading(app) as page:
        events.publish(Event("x", type="t", id="i", retry=9))
        page.got("x")

        assert page.events == [{"type": "t", "data": "x", "id": "i", "retry": 9}]


def test_publish_many_keeps_the_order() -> None:
    """Several things are published in order, and their ids come back."""
    app = an_app()
    events = EventStream(app)
    with reading(app) as page:
        ids = events.publish_many(["a", {"b": 1}, Event("c", id="own")])
        page.got("a", '{"b": 1}', "c")

        assert [event["id"] for event in page.events] == ids


def test_publish_to_reaches_each_channel() -> None:
    """One call gives many channels an event, made JSON once by the application's provider."""
    app = an_app()
    events = EventStream(app)
    with reading(app) as page:
        ids = events.publish_to(["other", "sse", "other"], {"b": 1}, type="t")
        page.got('{"b": 1}')

        assert list(ids) == ["other", "sse"]
        assert page.events[0]["id"] == ids["sse"]


def test_publish_many_is_checked_first() -> None:
    """Where one of several can't be sent, none is published."""
    app = an_app()
    events = EventStream(app)
    with reading(app) as page:
        with pytest.raises(InvalidEvent):
            events.publish_many(["a", b"bytes"])
        events.publish("b")
        page.got("b")


def test_text_is_sent_as_it_is() -> None:
    """Text reaches the page unchanged, whatever is in it."""
    texts = [
        "",
        " ",
        "  two",
        "a\nb\r\nc",
        "U+2028 \u2028 and \x0b",
        "Zoë ☃",
        "{}",
        "x" * 1_000_000,
    ]
    app = an_app()
    events = EventStream(app)
    with reading(app) as page:
        for text in texts:
            events.publish(text)
        page.got(*(text.replace("\r\n", "\n") for text in texts))


def test_anything_else_is_json_of_the_application() -> None:
    """Objects become JSON by the application's own provider, with or without a context."""

    class Provider(DefaultJSONProvider):
        @staticmethod
        def default(o: Any) -> Any:
            return o.isoformat() if isinstance(o, dt.date) else DefaultJSONProvider.default(o)

    app = an_app()
    app.json = Provider(app)
    events = EventStream(app)
    day = dt.date(2024, 2, 29)
    with reading(app) as page:
        events.publish({"day": day})
        with app.app_context():
            events.publish({"day": day})
        page.got('{"day": "2024-02-29"}', '{"day": "2024-02-29"}')


def test_flasks_provider_knows_more_than_json() -> None:
    """Dates are sent as Flask would answer with them."""
    app = an_app()
    events = EventStream(app)
    with reading(app) as page:
        events.publish(dt.datetime(2024, 2, 29, tzinfo=dt.timezone.utc))
        page.got('"Thu, 29 Feb 2024 00:00:00 GMT"')


def test_the_context_decides_whose_json_it_is() -> None:
    """In a context of one application its provider is used, also where another has the object."""
    events = EventStream()
    first, second = an_app("first"), an_app("second")
    second.json.ensure_ascii = False  # type: ignore[attr-defined]
    for app in (first, second):
        app.register_blueprint(events)
    with reading(first) as of_first, reading(second) as of_second:
        with first.app_context():
            events.publish({"n": "ë"})
        with second.app_context():
            events.publish({"n": "ë"})
        of_first.got('{"n": "\\u00eb"}')
        of_second.got('{"n": "ë"}')


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda events: events.publish(object()), InvalidEvent),
        (lambda events: events.publish(b"bytes"), InvalidEvent),
        (lambda events: events.publish("x", type="a\nb"), InvalidEvent),
        (lambda events: events.publish("x", id="a\0b"), InvalidEvent),
        (lambda events: events.publish("x", retry=-1), InvalidEvent),
        (lambda events: events.publish("x" * 11), EventTooLarge),
        (lambda events: events.publish(Event("x" * 11)), EventTooLarge),
        (lambda events: events.publish("x", channel=""), InvalidChannel),
        (lambda events: events.end("a\nb"), InvalidChannel),
    ],
)
def test_what_can_not_be_published_says_so(
    call: Callable[[EventStream], Any], error: type[Exception]
) -> None:
    """A wrong argument raises the package's own error, and nothing is published."""
    app = an_app(SSE_MAX_EVENT_BYTES=10)
    events = EventStream(app)
    with reading(app) as page:
        with pytest.raises(error):
            call(events)
        events.publish("next")
        page.got("next")


def test_outside_a_context_one_application_is_enough() -> None:
    """Without a context the object's only application is meant."""
    app = an_app()
    events = EventStream(app)
    with reading(app) as page:
        thread = threading.Thread(target=lambda: events.publish("from a thread"))
        thread.start()
        thread.join(10)
        page.got("from a thread")


def test_outside_a_context_no_application_is_an_error() -> None:
    """Without a context and an application `publish` says what to do."""
    with pytest.raises(RuntimeError, match=r"sse belongs to no application, .*app_context"):
        EventStream().publish("x")


@pytest.mark.parametrize("named", [None, "other"])
def test_publishing_where_nobody_reads_is_an_error(tmp_path: Path, named: str | None) -> None:
    """In an app that never registered `sse`, `publish` writes nothing and says the line to add."""
    app = Flask("app_under_test", instance_path=str(tmp_path / "instance"))
    if named:
        app.config["SSE_BROKER_URL"] = "memory://"
        EventStream(app, name=named)
    with app.app_context():
        for call in (lambda: sse.publish("x"), lambda: sse.publish_many(["x"])):
            with pytest.raises(
                RuntimeError, match=r"add app\.register_blueprint\(sse, url_prefix="
            ):
                call()

    assert list(tmp_path.iterdir()) == []


def test_outside_a_context_two_applications_are_an_error() -> None:
    """Without a context `publish` does not guess among several applications."""
    events = EventStream()
    apps = [an_app("first"), an_app("second")]
    for app in apps:
        app.register_blueprint(events)

    with pytest.raises(RuntimeError, match="sse belongs to 2 applications"):
        events.publish("x")


# ---- logs


def test_the_default_log_is_in_the_instance_folder(tmp_path: Path) -> None:
    """Without a URL the log is a file in the instance folder, which is made."""
    app = Flask("app_under_test", instance_path=str(tmp_path / "deep" / "instance"))
    events = EventStream(app)
    with reading(app) as page:
        events.publish("x")
        page.got("x")

    folder = tmp_path / "deep" / "instance"
    (file,) = folder.glob("*.db")
    assert file.name == "eventstream-app_under_test.db"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_two_applications_in_one_folder_share_nothing(tmp_path: Path) -> None:
    """Each application has a file of its own by default, whatever its name has in it."""
    names = ("shop.public", "shop.admin", "shop/admin")
    urls = set()
    for name in names:
        app = Flask(name, instance_path=str(tmp_path), root_path=str(tmp_path))
        urls.add(state_of(app, EventStream(app)).broker.url)

    assert len(urls) == len(names)
    assert all(url.startswith(f"sqlite:///{tmp_path}/eventstream-shop") for url in urls)


@pytest.mark.parametrize("scheme", ["memory", "sqlite"])
def test_the_streams_of_an_application_share_its_log(tmp_path: Path, scheme: str) -> None:
    """Two EventStreams of one application read what either publishes, in memory, too."""
    url = "memory://" if scheme == "memory" else f"sqlite:///{tmp_path}/events.db"
    app = an_app(SSE_BROKER_URL=url)
    first, second = EventStream(name="first"), EventStream(name="second")
    app.register_blueprint(first, url_prefix="/first")
    app.register_blueprint(second, url_prefix="/second")
    with app.app_context(), reading(app, "/second") as page:
        first.publish("x")
        page.got("x")


def test_an_instance_folder_that_can_not_be_made_is_explained(tmp_path: Path) -> None:
    """Where the instance folder can't be made the error names it and the key to set."""
    (tmp_path / "file").touch()
    app = Flask("app_under_test", instance_path=str(tmp_path / "file" / "instance"))

    with pytest.raises(InvalidConfig, match=r"SSE_BROKER_URL is not set.*instance"):
        EventStream(app)


def test_a_publisher_on_the_same_file_reaches_the_readers(tmp_path: Path) -> None:
    """What a script publishes to the file reaches the application's readers."""
    url = f"sqlite:///{tmp_path}/events.db"
    app = an_app(SSE_BROKER_URL=url)
    EventStream(app)
    with reading(app) as page:
        Publisher(url).publish({"from": "a script"})
        page.got('{"from": "a script"}')


def test_two_applications_on_one_file_are_one(tmp_path: Path) -> None:
    """Applications that name the same file share its events and its history."""
    url = f"sqlite:///{tmp_path}/events.db"
    first, second = an_app("first", SSE_BROKER_URL=url), an_app("second", SSE_BROKER_URL=url)
    of_first, of_second = EventStream(first), EventStream(second)
    seen = of_first.publish("a")
    of_first.publish("b")
    with reading(second, **{"Last-Event-ID": seen}) as page:
        of_second.publish("c")
        page.got("b", "c")


# ---- configuration


def test_mistakes_are_reported_together() -> None:
    """All mistakes of a configuration come in one error, each with its key."""
    app = an_app(SSE_HEARTBEAT_S="soon", SSE_RETRY_MS=-1, SSE_HANDOFF="maybe", SSE_PUBLIC=5)

    with pytest.raises(InvalidConfig) as caught:
        EventStream(app)

    assert {problem.split()[0] for problem in caught.value.problems} == {
        "SSE_HEARTBEAT_S",
        "SSE_RETRY_MS",
        "SSE_HANDOFF",
        "SSE_PUBLIC",
    }


def test_a_mistake_is_repeated_at_every_use() -> None:
    """A mistake that is made after registration meets the first use, and each one after it."""
    app = an_app()
    events = EventStream()
    app.register_blueprint(events)
    app.config["SSE_HEARTBEAT_S"] = "soon"
    for _ in range(2):
        with pytest.raises(InvalidConfig, match="SSE_HEARTBEAT_S"):
            events.publish("x")


@pytest.mark.parametrize("url", ["memory", "mysql://host", "sqlite://", "sqlite:///:memory:"])
def test_an_unknown_broker_is_a_mistake(url: str) -> None:
    """A URL that names no broker raises, with the key and the URL."""
    with pytest.raises(InvalidConfig, match=f"SSE_BROKER_URL is '{url}'"):
        EventStream(an_app(SSE_BROKER_URL=url))


def test_registration_makes_no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A factory that makes many applications leaves nothing of a broker behind."""
    made: list[object] = []
    monkeypatch.setattr(MemoryBroker, "__init__", lambda broker, *_, **__: made.append(broker))
    an_app().register_blueprint(EventStream())

    assert made == []


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    "key", ["SSE_CHANNEL", "SSE_RETRY", "SSE_HEARTBEAT", "SSE_BROKER", "SSE_REDIS_PASSWORD"]
)
def test_a_key_of_the_applications_own_stops_nothing(
    caplog: pytest.LogCaptureFixture, key: str
) -> None:
    """A key that is nearly one of ours is named in the log, once, and everything works."""
    app = an_app(SSE_PUBLIC=True, **{key: "hunter2"})
    app.register_blueprint(EventStream(name="first"), url_prefix="/first")
    app.register_blueprint(EventStream())
    (warning,) = warnings_of(caplog)
    with reading(app) as page:
        with app.app_context():
            sse.publish("x")
        page.got("x")

    assert warning.startswith(f"{key} is not read")
    assert "hunter2" not in warning
    assert warnings_of(caplog) == [warning]


@pytest.mark.parametrize("key", ["SSE_BROKER_URL", "SSE_REDIS_URL", "REDIS_URL"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_url_that_is_empty_is_said(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, key: str, value: str | None
) -> None:
    """Where the broker's URL is there and empty, the log says which file is used instead."""
    app = Flask("app_under_test", instance_path=str(tmp_path))
    app.config[key] = value
    if key == "SSE_BROKER_URL" and value == "":
        with pytest.raises(InvalidConfig, match="SSE_BROKER_URL is '', but must be a URL"):
            EventStream(app)
        return
    EventStream(app)
    (warning,) = warnings_of(caplog)

    assert warning.startswith(f"{key} is {value!r}, so events are kept in sqlite:///{tmp_path}")


@pytest.mark.parametrize("key", ["SSE_BROKER_URL", "FLASK_SSE_BROKER_URL"])
def test_an_environment_that_nobody_reads_is_said(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key: str
) -> None:
    """A URL in the environment alone is named in the log, with the line that reads it."""
    monkeypatch.setenv(key, "redis://:hunter2@host")
    EventStream(Flask("app_under_test", instance_path=str(tmp_path)))
    (warning,) = warnings_of(caplog)

    assert warning.startswith(f"{key} is set in the environment, and the application does not read")
    assert "app.config.from_prefixed_env()" in warning
    assert "hunter2" not in warning


def test_an_environment_that_is_read_is_fine(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads the environment, or names the broker otherwise, is told nothing."""
    monkeypatch.setenv("FLASK_SSE_BROKER_URL", "memory://")
    app = Flask("app_under_test")
    app.config.from_prefixed_env()
    EventStream(app)

    assert caplog.messages == []


# ---- counting


def test_statistics_are_the_applications_own() -> None:
    """Each application counts its own streams, and starts at nothing."""
    events = EventStream()
    first, second = an_app("first"), an_app("second")
    for app in (first, second):
        app.register_blueprint(events)
    with reading(first):
        with first.app_context():
            assert events.stats().streams == 1
        with second.app_context():
            assert events.stats() == Stats(0, 0, 0, {})


def test_a_view_may_answer_with_a_stream() -> None:
    """`response` is what a view returns, and `after_request` still applies to it."""
    app = an_app()
    events = EventStream(app)

    @app.get("/numbers")
    def numbers() -> Response:
        return events.response(range(1, 7))

    @app.after_request
    def add(response: Response) -> Response:
        response.headers["X-After"] = "request"
        return response

    with HandServer(app).request("/numbers") as page:
        page.end()

        assert page.headers["x-after"] == "request"
        assert [json.loads(each) for each in page.data] == [1, 2, 3, 4, 5, 6]


def test_the_global_object_publishes_for_an_extension_of_its_name() -> None:
    """In an app that was given to `EventStream(app)`, `sse` publishes to that one's readers."""
    app = Flask("shop")
    app.config["SSE_BROKER_URL"] = "memory://"
    stream = EventStream(app)

    with app.app_context():
        assert sse._state() is stream._state()
