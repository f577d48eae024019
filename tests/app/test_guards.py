"""Guards: whoever opens a stream is asked, by whichever route, in whichever application."""

from __future__ import annotations

import asyncio
import functools
import gc
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
from flask import Blueprint, Flask, Response, abort, current_app, request
from werkzeug.test import create_environ

from flask_eventstream import EventStream, Message, ServerSentEventsBlueprint, sse
from harness.hand_server import HandServer


def an_app(name: str = "app_under_test", **config: Any) -> Flask:
    app = Flask(name)
    app.config.update({"SSE_BROKER_URL": "memory://", **config})
    return app


def deny() -> Response:
    return Response("not for you", 403)


def status(app: Flask, path: str = "/stream", method: str = "HEAD") -> int:
    return app.test_client().open(path, method=method).status_code


# ---- whose guards


def extension_style(app: Flask) -> None:
    EventStream(app)


def factory_style(app: Flask) -> None:
    EventStream().init_app(app)


def blueprint_style(app: Flask) -> None:
    app.register_blueprint(sse, url_prefix="/stream")


def blueprint_of_ones_own(app: Flask) -> None:
    app.register_blueprint(EventStream())


def nested(app: Flask) -> None:
    parent = Blueprint("parent", "parent")
    parent.register_blueprint(sse)
    app.register_blueprint(parent)


WAYS = [extension_style, factory_style, blueprint_style, blueprint_of_ones_own, nested]


@pytest.mark.parametrize("register", WAYS)
@pytest.mark.parametrize("order", ["before", "after"])
def test_the_ready_made_object_guards_where_it_publishes(
    register: Callable[[Flask], None], order: str
) -> None:
    """A guard on `sse` is asked wherever `sse.publish` reaches readers, however it came to be."""
    app = an_app()
    if order == "before":
        sse.before_request(deny)
    register(app)
    if order == "after":
        sse.before_request(deny)
    with app.app_context():
        assert sse.publish("x")

    assert status(app) == 403


def test_each_application_with_the_name_is_guarded() -> None:
    """Two applications, each given to an EventStream of its own, both ask the guard on `sse`."""
    first, second = an_app("first"), an_app("second")
    EventStream(first)
    EventStream(second)
    sse.before_request(deny)

    assert (status(first), status(second)) == (403, 403)


def test_a_guard_of_one_object_is_not_anothers() -> None:
    """A guard on an application's own object is not asked in another application."""
    first, second = an_app("first"), an_app("second")
    EventStream(first).before_request(deny)
    EventStream(second)

    assert (status(first), status(second)) == (403, 200)


def test_another_name_is_another_object() -> None:
    """A guard on `sse` is not asked by an EventStream of another name, nor the other way round."""
    app = an_app()
    named = EventStream(name="named")
    app.register_blueprint(sse, url_prefix="/one")
    app.register_blueprint(named, url_prefix="/two")
    named.before_request(deny)

    assert (status(app, "/one"), status(app, "/two")) == (200, 403)

    sse.before_request(lambda: abort(401))

    assert (status(app, "/one"), status(app, "/two")) == (401, 403)


@pytest.mark.parametrize("use", ["publish", "stream", "stats"])
def test_an_object_that_no_application_has_can_not_be_used(use: str) -> None:
    """Who guards an object that is registered nowhere hears of it at the object's first use."""
    app = an_app()
    EventStream(app)
    stray = EventStream()
    stray.before_request(deny)

    with app.test_request_context("/stream"), pytest.raises(RuntimeError, match="has no EventStr"):
        getattr(stray, use)(*(["x"] if use == "publish" else []))


def test_guards_are_asked_in_their_order() -> None:
    """Guards are asked as they were registered, those on `sse` after those on the object itself."""
    app = an_app()
    stream = EventStream(app)
    asked: list[int] = []
    for number, each in enumerate([stream, sse, stream, sse]):
        each.before_request(functools.partial(asked.append, number))
    status(app)

    assert asked == [0, 2, 1, 3]


def test_a_guard_may_be_async() -> None:
    """A guard that is a coroutine runs as Flask runs such views, and its answer counts."""

    class Patient(Flask):
        def async_to_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
            return lambda: asyncio.run(func())  # as flask[async] does, which is not installed

    app = Patient("app_under_test")
    app.config["SSE_BROKER_URL"] = "memory://"
    events = EventStream(app)

    @events.before_request
    async def refuse() -> Response:
        return deny()

    assert status(app) == 403


# ---- routes of one's own


def own_route(app: Flask, events: EventStream, **options: Any) -> None:
    """A view of the application that answers with a stream."""
    app.add_url_rule("/mine", "mine", lambda: events.stream(), **options)  # noqa: PLW0108


def bound_route(app: Flask, events: EventStream, **options: Any) -> None:
    """The view itself at another route."""
    app.add_url_rule("/mine", "mine", events.stream, **options)


@pytest.mark.parametrize("route", [own_route, bound_route])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_route_of_ones_own_is_guarded(
    route: Callable[[Flask, EventStream], None], method: str
) -> None:
    """A view that answers with `sse.stream()` asks the guards, whose answer it gives."""
    app = an_app()
    events = EventStream(app)
    route(app, events)
    events.before_request(deny)
    answer = app.test_client().open("/mine", method=method)

    assert answer.status_code == 403
    assert answer.text == ("not for you" if method == "GET" else "")


def test_abort_in_a_guard_goes_through_a_route_of_ones_own() -> None:
    """A guard that aborts ends the view that asked for a stream."""
    app = an_app()
    events = EventStream(app)
    own_route(app, events)
    events.before_request(lambda: abort(401))

    assert status(app, "/mine") == 401


@pytest.mark.parametrize("path", ["/stream", "/own", "/mine"])
def test_a_guard_is_asked_once_in_a_request(path: str) -> None:
    """Where blueprint and view both ask, a guard runs once all the same; each request anew."""
    app = an_app()
    events = EventStream()
    events.add_url_rule("/own", "own", lambda: events.stream())  # noqa: PLW0108
    app.register_blueprint(events, url_prefix="/")
    app.add_url_rule("/stream", "stream", events.stream)
    own_route(app, events)
    asked: list[str] = []
    events.before_request(lambda: asked.append(request.path))
    with app.app_context():
        # Which test clients share.
        for _ in range(2):
            assert status(app, path) == 200

    assert asked == [path, path]


def test_a_guard_that_is_registered_twice_is_asked_once() -> None:
    """A function is one guard, however often it is registered."""
    app = an_app()
    events = EventStream(app)
    asked: list[int] = []

    def count() -> None:
        asked.append(1)

    events.before_request(events.before_request(count))
    status(app)

    assert asked == [1]


def test_a_request_made_of_anothers_environment_is_asked_again() -> None:
    """Who passed once has not passed for a second request, whatever that was made of."""
    app = an_app()
    events = EventStream(app)
    asked: list[int] = []
    events.before_request(lambda: asked.append(1))
    environ = create_environ("/stream", method="HEAD")
    for _ in range(2):
        with closing(app(environ, lambda *_: None)):  # type: ignore[arg-type, call-overload]
            pass

    assert asked == [1, 1]


def test_a_guard_that_refused_is_asked_again() -> None:
    """A view that tries twice in one request is refused twice."""
    app = an_app()
    events = EventStream(app)
    events.before_request(deny)

    @app.get("/twice")
    def twice() -> str:
        return f"{events.stream().status_code} {events.stream().status_code}"

    assert app.test_client().get("/twice").text == "403 403"


def test_ready_made_and_own_route() -> None:
    """`sse.stream` at a route of an application that was given to EventStream asks both guards."""
    app = an_app()
    stream = EventStream(app)
    bound_route(app, sse)
    asked: list[str] = []
    stream.before_request(lambda: asked.append("own"))
    sse.before_request(lambda: asked.append("sse"))

    assert status(app, "/mine") == 200
    assert asked == ["own", "sse"]


def test_ready_made_at_another_route_keeps_what_a_subclass_keeps_back() -> None:
    """`sse.stream` opens the stream of the object it stands for, overridden messages included."""

    class Filtered(ServerSentEventsBlueprint):
        def messages(self, channel: Any = "sse") -> Iterator[Message]:
            yield Message(f"all that may be seen of {channel}")

    app = an_app()
    filtered = Filtered("sse", __name__, url_prefix="/stream")
    filtered.add_url_rule("", endpoint="stream", view_func=filtered.stream)
    app.register_blueprint(filtered)
    bound_route(app, sse)
    for path in ("/stream", "/mine"):
        with HandServer(app).request(f"{path}?channel=a") as page:
            page.got("all that may be seen of a")
            page.end()


def test_other_routes_of_the_blueprint_are_guarded() -> None:
    """Whatever else is on the blueprint is guarded as Flask would."""
    app = an_app()
    events = EventStream()
    events.add_url_rule("/page", "page", lambda: "a page")
    app.register_blueprint(events)
    events.before_request(deny)

    assert status(app, "/stream/page") == 403


# ---- methods


def test_a_preflight_is_not_guarded() -> None:
    """OPTIONS is answered as Flask answers it, whatever the guards say."""
    app = an_app()
    events = EventStream(app)
    events.before_request(lambda: abort(401))
    answer = app.test_client().options("/stream")

    assert answer.status_code == 200
    assert set(answer.allow) == {"GET", "HEAD", "OPTIONS"}


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_each_method_that_opens_a_stream_is_guarded(method: str) -> None:
    """HEAD tells as little as GET."""
    app = an_app()
    EventStream(app).before_request(deny)

    assert status(app, method=method) == 403


def test_options_open_no_stream() -> None:
    """A route of one's own that hands OPTIONS on to the stream says its methods, and no more."""
    app = an_app()
    events = EventStream(app)
    own_route(app, events, methods=["GET", "OPTIONS"], provide_automatic_options=False)
    events.before_request(deny)
    answer = app.test_client().options("/mine")

    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    assert set(answer.allow) == {"GET", "HEAD", "OPTIONS"}


def test_options_that_the_blueprint_answers_itself_are_guarded() -> None:
    """A view of one's own on the blueprint is guarded, also where it answers OPTIONS."""
    app = an_app()
    events = EventStream()
    options: Any = {"methods": ["OPTIONS"], "provide_automatic_options": False}
    events.add_url_rule("/mine", "mine", lambda: "mine", **options)
    app.register_blueprint(events, url_prefix="/")
    events.before_request(deny)

    assert status(app, "/mine", "OPTIONS") == 403


# ---- app factories


class Shop:
    """What a factory makes for each application."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def check(self) -> None:
        self.asked.append(current_app.name)


def guard_in_the_factory(shop: Shop) -> None:
    @sse.before_request
    def check() -> None:
        shop.check()


def guard_by_a_decorator(shop: Shop) -> None:
    def counted(function: Callable[[], None]) -> Callable[[], None]:
        return functools.wraps(function)(lambda: function())  # noqa: PLW0108

    @sse.before_request
    @counted
    def check() -> None:
        shop.check()


def guard_by_a_method(shop: Shop) -> None:
    sse.before_request(shop.check)


def guard_by_a_helper(shop: Shop) -> None:
    def add() -> None:
        sse.before_request(lambda: shop.check())  # noqa: PLW0108

    add()


GUARDED = [guard_in_the_factory, guard_by_a_decorator, guard_by_a_method, guard_by_a_helper]


def create_app(
    name: str, guard: Callable[[Shop], None] | None, *, order: str = "before"
) -> tuple[Flask, Shop]:
    app, shop = an_app(name), Shop()
    if guard and order == "before":
        guard(shop)
    app.register_blueprint(sse)
    if guard and order == "after":
        guard(shop)
    return app, shop


@pytest.mark.parametrize("guard", GUARDED)
@pytest.mark.parametrize("order", ["before", "after"])
def test_each_application_has_the_guard_of_its_factory(
    guard: Callable[[Shop], None], order: str
) -> None:
    """Of five applications of one factory each is asked its own guard, once, and no other's."""
    made = [create_app(f"app{number}", guard, order=order) for number in range(5)]
    for app, _ in made:
        assert status(app) == 200

    assert [shop.asked for _, shop in made] == [[app.name] for app, _ in made]


def test_several_guards_of_one_factory_are_all_asked() -> None:
    """Guards that one loop makes of the same code are all asked in their application."""

    def create(name: str) -> tuple[Flask, list[str]]:
        app, asked = an_app(name), []
        app.register_blueprint(sse)
        for each in "abc":
            sse.before_request(lambda each=each: asked.append(f"{name} {each}"))  # type: ignore[misc]
        return app, asked

    made = [create("first"), create("second")]
    for app, asked in made:
        assert status(app) == 200
        assert asked == [f"{app.name} {each}" for each in "abc"]


def test_an_application_without_its_own_is_guarded_too() -> None:
    """Where a factory registers no guard, the one that was registered last is asked."""
    _, first = create_app("first", guard_in_the_factory)
    _, second = create_app("second", guard_in_the_factory)
    app, _ = create_app("third", None)

    assert status(app) == 200
    assert (first.asked, second.asked) == ([], ["third"])


def test_an_application_without_its_own_is_asked_all_of_another() -> None:
    """Where a factory made several guards of the same code, an application without is asked all."""
    asked: list[str] = []

    def create(name: str) -> None:
        app = an_app(name)
        app.register_blueprint(sse)
        for each in "ab":
            sse.before_request(lambda each=each: asked.append(f"{name} {each}"))  # type: ignore[misc]

    create("first")
    create("second")
    app, _ = create_app("third", None)
    status(app)

    assert asked == ["second a", "second b"]


def test_what_one_decorator_made_is_not_one_guard() -> None:
    """Different guards under the same decorator do not take each other's place."""
    asked: list[str] = []

    def counted(function: Callable[[], None]) -> Callable[[], None]:
        return functools.wraps(function)(lambda: function())  # noqa: PLW0108

    def create(name: str, guard: Callable[[], None]) -> Flask:
        app = an_app(name)
        app.register_blueprint(sse)
        sse.before_request(counted(guard))
        return app

    first = create("first", lambda: asked.append("one"))
    second = create("second", lambda: asked.append("other"))
    status(first)
    status(second)

    assert asked == ["one", "other", "one", "other"]


def test_a_guard_of_no_factory_is_asked_everywhere() -> None:
    """A function of a module, registered by each factory, is asked once, and everywhere."""
    asked: list[str] = []

    def check() -> None:
        asked.append(current_app.name)

    def create(name: str, *, guarded: bool) -> Flask:
        app = an_app(name)
        app.register_blueprint(sse)
        if guarded:
            sse.before_request(check)
        return app

    apps = [create(str(number), guarded=number != 1) for number in range(3)]
    for app in apps:
        assert status(app) == 200

    assert asked == ["0", "1", "2"]


def test_a_guard_for_two_applications_is_asked_in_both() -> None:
    """A guard beside two applications belongs to neither, so no later one takes its place."""

    def create(answer: int) -> tuple[Flask, Flask]:
        first, second = an_app("first"), an_app("second")
        first.register_blueprint(sse)
        second.register_blueprint(sse)
        sse.before_request(lambda: abort(answer) if request.args["as"] == str(answer) else None)
        return first, second

    apps = [*create(401), *create(403)]

    for app in apps:
        assert [status(app, f"/stream?as={each}") for each in (401, 403, 5)] == [401, 403, 200]


def test_one_guard_for_all_in_the_factory_of_one() -> None:
    """A guard that only the first application's factory registers is asked in the second, too."""
    first, _ = create_app("first", lambda _shop: sse.before_request(deny) and None)
    second, _ = create_app("second", None)

    assert (status(first), status(second)) == (403, 403)


def test_a_factory_of_extensions_of_ones_own() -> None:
    """Guards on `sse` belong to their applications also where each is given to EventStream."""

    def create(name: str) -> tuple[Flask, list[str]]:
        app, asked = an_app(name), []
        EventStream(app)
        sse.before_request(lambda: asked.append(name))
        return app, asked

    made = [create(str(number)) for number in range(5)]
    for app, asked in made:
        assert status(app) == 200
        assert asked == [app.name]


def test_the_applications_of_a_factory_can_be_forgotten() -> None:
    """A guard that holds its application does not keep it, once the factory made another."""

    def create() -> Flask:
        app = an_app()
        app.register_blueprint(sse)
        sse.before_request(lambda: None if app else abort(403))
        return app

    apps = [weakref.ref(create()) for _ in range(5)]
    gc.collect()

    assert [app() for app in apps[:4]] == [None] * 4


# ---- what is said


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_stream_that_is_open_to_everybody_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """Without a guard the log says once, for each application, that every channel can be read."""
    for name in ("first", "second"):
        app = an_app(name)
        EventStream(app)
        assert caplog.messages == []

        for _ in range(2):
            status(app)
        (warning,) = warnings_of(caplog)
        caplog.clear()

        assert warning == (
            "EventStream 'sse' has no rule and no guard: who may open it may read every channel."
            " Add a function with @sse.channel(PATTERN), or set SSE_PUBLIC = True"
        )


@pytest.mark.parametrize("how", ["a guard", "a guard on sse", "SSE_PUBLIC"])
def test_who_decided_is_not_warned(caplog: pytest.LogCaptureFixture, how: str) -> None:
    """A guard, or the word that everybody may read, silences the warning."""
    app = an_app(SSE_PUBLIC=how == "SSE_PUBLIC")
    events = EventStream(app)
    if how != "SSE_PUBLIC":
        (events if how == "a guard" else sse).before_request(lambda: None)
    status(app)

    assert warnings_of(caplog) == []


def test_an_unguarded_stream_beside_a_guarded_one_is_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Two EventStreams share the application's log: a guard on one leaves the other open."""
    app = an_app(SSE_PUBLIC=True)
    app.register_blueprint(EventStream(), url_prefix="/public")
    private = EventStream(name="private")
    app.register_blueprint(private, url_prefix="/private")
    private.before_request(deny)
    for path in ("/private", "/public", "/public"):
        status(app, path)

    (warning,) = warnings_of(caplog)

    assert warning == (
        "EventStream 'sse' has no guard, and it serves the same channels as private, which has one:"
        " add @before_request to both"
    )


def test_redis_of_the_platform_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """Where REDIS_URL alone made Redis the broker, the warning says what can be read there."""
    app = an_app(SSE_BROKER_URL=None, REDIS_URL="redis://:secret@127.0.0.1:1/0")
    EventStream(app)
    status(app)
    said = " ".join(warnings_of(caplog))

    assert "every channel of the Redis server that REDIS_URL names (redis://" in said
    assert "secret" not in said
