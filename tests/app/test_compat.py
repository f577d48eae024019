"""The names of the older extensions, used as their users use them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from flask import Flask, current_app, json, request

import flask_eventstream
from flask_eventstream import (
    EventStream,
    InvalidChannel,
    InvalidConfig,
    InvalidEvent,
    Message,
    ServerSentEventsBlueprint,
    send_event,
    sse,
)
from flask_eventstream.app import compat
from flask_eventstream.hub.tail import Gap
from harness.event_stream import EventStreamParser
from harness.hand_server import HandServer, Page
from harness.waiting import wait_until


@pytest.fixture
def app() -> Flask:
    """An application with the ready-made blueprint, as the older extension's guide has it."""
    app = Flask("app_under_test")
    app.config["SSE_BROKER_URL"] = "memory://"
    app.register_blueprint(sse, url_prefix="/stream")
    return app


@pytest.fixture
def page(app: Flask) -> Iterator[Page]:
    """A reader of the channel `sse`."""
    with HandServer(app).request() as page:
        yield page.opened()


@pytest.mark.parametrize(
    "name", ["sse", "Message", "ServerSentEventsBlueprint", "send_event", "EventStream"]
)
def test_the_names_are_there(name: str) -> None:
    """Each name of the older extensions can be imported from the package."""
    assert name in flask_eventstream.__all__
    assert hasattr(flask_eventstream, name)


# ---- Message


def test_a_message_keeps_its_fields() -> None:
    """A message has its fields as they were given."""
    message = Message({"a": 1}, "t", 5, 500)

    assert (message.data, message.type, message.id, message.retry) == ({"a": 1}, "t", 5, 500)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (Message("foo"), {"data": "foo"}),
        (Message("foo", type="example"), {"data": "foo", "type": "example"}),
        (
            Message("foo", type="t", id=5, retry=500),
            {"data": "foo", "type": "t", "id": 5, "retry": 500},
        ),
        (Message({"a": 1}, type="", id="", retry=0), {"data": {"a": 1}}),
        (Message(None), {"data": None}),
    ],
)
def test_to_dict_has_what_is_set(message: Message, expected: dict[str, Any]) -> None:
    """`to_dict` has the data, and of the other fields those that are set."""
    assert message.to_dict() == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (Message("foo"), ("message", "foo", "", None)),
        (Message("foo", type="t", id=5, retry=500), ("t", "foo", "5", 500)),
        (Message("a\nb\r\nc"), ("message", "a\nb\nc", "", None)),
        (Message({"b": [1, 2]}), ("message", '{"b": [1, 2]}', "", None)),
        (Message(None), ("message", "null", "", None)),
        (Message(True), ("message", "true", "", None)),  # noqa: FBT003  the data
        (Message("Zoë \u2028"), ("message", "Zoë \u2028", "", None)),
        (Message(""), ("message", "", "", None)),
        (Message("foo", retry=0), ("message", "foo", "", None)),
        (Message(" a\n  b\ndata: c"), ("message", " a\n  b\ndata: c", "", None)),
        (Message("x", type=" t"), (" t", "x", "", None)),
    ],
)
def test_a_message_as_text_is_the_event(
    message: Message, expected: tuple[str, str, str, int | None]
) -> None:
    """A message as text is what a page reads it from."""
    (event,) = EventStreamParser().feed(str(message).encode())

    assert (event["type"], event["data"], event["id"], event["retry"]) == expected


def test_a_message_as_text_is_what_it_was() -> None:
    """The text is flask-sse's, byte for byte, where that was right."""
    message = Message("foo\nbar", type="example", id=5, retry=500)

    assert str(message) == "event:example\ndata:foo\ndata:bar\nid:5\nretry:500\n\n"


def test_a_message_uses_the_applications_json(app: Flask) -> None:
    """Inside an application a message's data becomes that application's JSON."""
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    with app.app_context():
        assert str(Message({"b": "ë", "a": 1})) == 'data:{"a": 1, "b": "ë"}\n\n'


@pytest.mark.parametrize("message", [Message("x", type="a\nb"), Message("x", id="a\0")])
def test_a_message_can_not_smuggle_fields(message: Message) -> None:
    """A line break in a field is an error when the message is sent, not another field."""
    with pytest.raises(InvalidEvent):
        str(message)


def test_a_message_of_bytes_is_no_message() -> None:
    """Bytes are refused as they always were."""
    with pytest.raises(TypeError):
        str(Message(b"bytes"))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (Message("foo"), "Message('foo')"),
        (
            Message("foo", type="example", id=5, retry=500),
            "Message('foo', type='example', id=5, retry=500)",
        ),
        (Message({"a": 1}, id="5"), "Message({'a': 1}, id='5')"),
    ],
)
def test_repr_shows_what_is_set(message: Message, expected: str) -> None:
    """A message shows its data and the fields that are set."""
    assert repr(message) == expected


def test_messages_are_compared_by_their_fields() -> None:
    """Messages are equal where class and all fields are."""

    class Other(Message):
        """Another class."""

    assert Message("a", "t", 1, 2) == Message("a", "t", 1, 2)
    assert Message("a") != Message("b")
    assert Message("a", "t") != Message("a")
    assert Message("a", None, 1) != Message("a")
    assert Message("a", None, None, 1) != Message("a")
    assert Message("a") != "a"
    assert Other("a") != Message("a") or Message("a") != Other("a")


def test_messages_are_not_hashable() -> None:
    """A message can't be a key, since its fields may be changed."""
    with pytest.raises(TypeError, match="unhashable"):
        hash(Message("a"))


def test_other_classes_show_their_name() -> None:
    """A subclass shows its own name."""

    class Alert(Message):
        """Another class."""

    assert repr(Alert("x")) == "Alert('x')"


# ---- publish and send_event


def test_publish_takes_positions(app: Flask, page: Page) -> None:
    """`publish` takes data, type, id, retry and channel in this order."""
    with app.app_context():
        sse.publish("x", "t", "7", 500, "sse")
    page.got("x")

    assert page.events == [{"type": "t", "data": "x", "id": "7", "retry": 500}]


def test_publish_takes_names(app: Flask, page: Page) -> None:
    """`publish` takes all of it by name too, numbers for ids included."""
    with app.app_context():
        sse.publish(data={"a": 1}, type="t", id=7, retry=500, channel="sse")  # type: ignore[arg-type]
    page.got('{"a": 1}')

    assert page.events == [{"type": "t", "data": '{"a": 1}', "id": "7", "retry": 500}]


def test_send_event_has_the_type_first(app: Flask, page: Page) -> None:
    """`send_event` takes the type first, returns nothing, and its default channel is `sse`."""
    with app.app_context():
        assert send_event("t", json.dumps({"a": 1})) is None  # type: ignore[func-returns-value]
        send_event("other", "elsewhere", channel="other")
        send_event("t", "by position", "sse")
    page.got('{"a": 1}', "by position")

    assert [event["type"] for event in page.events] == ["t", "t"]


def test_send_event_without_a_type_is_a_message(app: Flask, page: Page) -> None:
    """`send_event` with None for the type sends a plain message."""
    with app.app_context():
        send_event(None, "x")
    page.got("x")

    assert page.events[0]["type"] == "message"


def test_the_endpoint_has_its_old_name(app: Flask) -> None:
    """Templates that say `url_for("sse.stream")` go on."""
    with app.test_request_context():
        assert app.url_for("sse.stream", channel="a") == "/stream?channel=a"


# ---- the blueprint class


@pytest.fixture
def own() -> ServerSentEventsBlueprint:
    """A blueprint of one's own, with the route that its users add."""
    own = ServerSentEventsBlueprint("own", __name__)
    own.add_url_rule(rule="", endpoint="stream", view_func=own.stream)
    return own


@pytest.fixture
def its_app(own: ServerSentEventsBlueprint) -> Flask:
    """An application with that blueprint."""
    app = Flask("app_under_test")
    app.config["SSE_BROKER_URL"] = "memory://"
    app.register_blueprint(own, url_prefix="/live")
    return app


def test_an_own_blueprint_streams(own: ServerSentEventsBlueprint, its_app: Flask) -> None:
    """A blueprint of one's own streams at the route that was added to it."""
    with HandServer(its_app).request("/live") as page:
        page.opened()
        with its_app.app_context():
            own.publish("x", type="t")
        page.got("x")


def test_an_own_blueprint_has_no_route_by_itself() -> None:
    """A blueprint of one's own has no route until one is added."""
    app = Flask("app_under_test")
    app.config["SSE_BROKER_URL"] = "memory://"
    app.register_blueprint(ServerSentEventsBlueprint("own", __name__), url_prefix="/live")

    assert app.test_client().get("/live").status_code == 404


def test_an_own_blueprint_has_rules(own: ServerSentEventsBlueprint, its_app: Flask) -> None:
    """Access rules of a blueprint of one's own are asked."""
    own.before_request(lambda: ("not for you", 403))

    assert its_app.test_client().get("/live").status_code == 403


def test_an_own_blueprint_takes_a_blueprints_options() -> None:
    """Options of Flask's blueprints are passed on."""
    app = Flask("app_under_test")
    app.config["SSE_BROKER_URL"] = "memory://"
    own = ServerSentEventsBlueprint("own", __name__, url_prefix="/live")
    own.add_url_rule("", endpoint="stream", view_func=own.stream)
    app.register_blueprint(own)

    assert app.test_client().head("/live").status_code == 200


def test_it_is_an_event_stream(own: ServerSentEventsBlueprint) -> None:
    """The class is an `EventStream`, and so is `sse`, which is of that class."""
    assert isinstance(own, EventStream)
    assert isinstance(sse, EventStream)
    assert isinstance(sse, ServerSentEventsBlueprint)


# ---- messages


def first_message(
    app: Flask, stream: ServerSentEventsBlueprint, publish: Callable[[], object], **asked: Any
) -> Message:
    """What `messages` gives first of what is published again and again."""
    found: list[Message] = []

    def read() -> None:
        with app.app_context():
            messages = stream.messages(**asked)
            found.append(next(messages))
            messages.close()  # type: ignore[attr-defined]

    reader = threading.Thread(target=read, daemon=True)
    reader.start()

    def published() -> list[Message]:
        # It begins to read at its first `next`, of which nobody is told.
        with app.app_context():
            publish()
        return found

    wait_until(published, what="the message")
    reader.join(10)
    return found[0]


def test_messages_of_a_channel_come_as_they_are_published(
    own: ServerSentEventsBlueprint, its_app: Flask
) -> None:
    """`messages` gives each event of its channel as a message, and no end of a channel."""

    def publish() -> None:
        own.publish("elsewhere")
        own.end("own")
        own.publish("x", type="t", id="7", retry=5, channel="own")

    assert first_message(its_app, own, publish, channel="own") == Message("x", "t", "7", 5)


def test_messages_are_of_the_application_that_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that iterates may know of no application: the one that was asked counts."""
    apps = [Flask(name) for name in ("first", "second")]
    for each in apps:
        each.config.update(SSE_BROKER_URL="memory://", SSE_PUBLIC=True)
        each.register_blueprint(sse, url_prefix="/stream")
    monkeypatch.setattr(compat, "_messages", lambda broker, _channel: iter([broker]))
    found: list[object] = []
    for each in apps:
        with each.app_context():
            messages = sse.messages("a")
        thread = threading.Thread(target=lambda: found.append(next(messages)))  # noqa: B023
        thread.start()
        thread.join(10)

    assert len(set(map(id, found))) == 2


@pytest.mark.parametrize("url", ["memory://", "sqlite:///{folder}/events.db"])
@pytest.mark.parametrize(
    "data",
    [{"a": [1, None]}, [], 7, 1.5, True, None, "text", "7", '{"a": 1}', "null", ""],
    ids=repr,
)
def test_the_data_of_a_message_is_what_was_published(
    tmp_path: Path, url: str, data: object
) -> None:
    """`sse.messages()` gives objects as objects, text as text, and no id where none was given."""
    app = Flask("app_under_test")
    app.config["SSE_BROKER_URL"] = url.format(folder=tmp_path)
    app.register_blueprint(sse, url_prefix="/stream")

    assert first_message(app, sse, lambda: sse.publish(data)) == Message(data)


def test_messages_of_a_channel_that_is_a_number(app: Flask) -> None:
    """A channel may be a number here as elsewhere."""
    message = first_message(app, sse, lambda: sse.publish("x", channel=42), channel=42)

    assert message.data == "x"


def test_messages_say_what_is_lost(
    app: Flask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What the log lost while `messages` read it is no message, and is logged."""
    gap = Gap(frozenset({"sse"}), "p-7")
    monkeypatch.setattr(compat, "read_entries", lambda *_: iter([gap]))
    with app.app_context():
        assert list(sse.messages()) == []

    assert "Something is gone of what messages('sse') reads" in caplog.text


def test_messages_of_what_is_no_channel(app: Flask) -> None:
    """A channel that can't be one is refused at the first message."""
    with app.app_context(), pytest.raises(InvalidChannel):
        next(sse.messages(None))  # type: ignore[arg-type]


# ---- what a subclass overrides


def serve(stream: ServerSentEventsBlueprint, **config: Any) -> Flask:
    """An application with that blueprint, at the route that its users add."""
    stream.add_url_rule(rule="", endpoint="stream", view_func=stream.stream)
    app = Flask("app_under_test")
    app.config.update({"SSE_BROKER_URL": "memory://", **config})
    app.register_blueprint(stream, url_prefix="/live")
    return app


class Discreet(ServerSentEventsBlueprint):
    """Keeps one type back, as many did."""

    def messages(self, channel: Any = "sse") -> Iterator[Message]:
        """Those that are no secret, with the user's name."""
        for message in super().messages(channel=channel):
            if message.type != "secret":
                yield Message({"for": request.args["user"], "is": message.data}, message.type)


def test_overridden_messages_are_what_is_streamed(caplog: pytest.LogCaptureFixture) -> None:
    """What `messages` of a subclass keeps back reaches nobody; the log says what that costs."""
    own = Discreet("own", __name__)
    app = serve(own)
    with HandServer(app).request("/live?user=me&channel=7&channel=8") as page:
        page.opened()

        def publish() -> list[str]:
            with app.app_context():
                own.publish("hidden", type="secret", channel=7)
                own.publish("other channel", channel=8)
                own.publish({"a": 1}, type="t", channel=7)
            page.read(0.1)
            return page.data

        wait_until(publish, what="an event")

    assert {(event["type"], event["data"]) for event in page.events} == {
        ("t", '{"for": "me", "is": {"a": 1}}')
    }
    assert [r.getMessage().partition(",")[0] for r in caplog.records if "overridden" in r.msg] == [
        "Discreet.messages is overridden"
    ]


def test_overridden_messages_have_guards() -> None:
    """Guards are asked before overridden `messages` are."""
    own = Discreet("own", __name__)
    app = serve(own)
    own.before_request(lambda: ("not for you", 403))

    assert app.test_client().get("/live").status_code == 403


def test_overridden_messages_of_what_is_no_channel() -> None:
    """A channel that can't be one is answered as it is without an override."""
    app = serve(Discreet("own", __name__))

    assert app.test_client().get("/live?channel=a%0Ab").status_code == 400


def test_messages_that_are_none_end_the_stream(caplog: pytest.LogCaptureFixture) -> None:
    """What is no message is not sent, and the log says who gave it."""

    class Raw(ServerSentEventsBlueprint):
        """Gives text."""

        def messages(self, channel: Any = "sse") -> Iterator[Any]:
            """Text of its own."""
            yield f"data: {channel}\n\n"

    with HandServer(serve(Raw("own", __name__))).request("/live") as page:
        wait_until(lambda: page.read(0.1) or page.ended, what="the end of the stream")

    assert page.events == []
    assert "Raw.messages gave a str, not a Message" in caplog.text


def test_async_messages_are_refused() -> None:
    """A class whose `messages` could never be run is refused when it is made."""
    with pytest.raises(TypeError, match=r"Later\.messages is async, .* generator without async"):

        class Later(ServerSentEventsBlueprint):
            """Waits for what never comes."""

            async def messages(self, channel: Any = "sse") -> Any:  # type: ignore[override]
                """Nothing."""
                yield channel


def test_an_overridden_stream_is_the_view() -> None:
    """`stream` of a subclass answers, and may call ours."""

    class Choosy(ServerSentEventsBlueprint):
        """Wants a name."""

        def stream(self, **variables: object) -> Any:
            """The stream, for whoever has a name."""
            return super().stream(**variables) if request.args.get("name") else ("who?", 400)

    app = serve(Choosy("own", __name__))

    assert app.test_client().get("/live").status_code == 400
    with HandServer(app).request("/live?name=me") as page:
        assert page.opened()


class Elsewhere(ServerSentEventsBlueprint):
    """Has its events on a server of its own."""

    client: Any = redis.Redis(host="redis.example", port=6380, db=3, password="secret")

    @property
    def redis(self) -> Any:
        """The client, which is there inside an application alone, as in flask-sse."""
        return self.client if current_app.config.get("SHARED", True) else None


def test_an_overridden_redis_has_the_log() -> None:
    """Events go to the server of the client that `redis` of a subclass gives."""
    own = Elsewhere("own", __name__)
    app = serve(own, SSE_BROKER_URL=None, REDIS_URL="redis://other.example")

    assert own._state(app).broker.url == "redis://redis.example:6380/3"


def test_a_broker_that_is_named_goes_before_an_overridden_redis() -> None:
    """With SSE_BROKER_URL the property is for the application's own commands alone."""
    own = Elsewhere("own", __name__)

    assert own._state(serve(own, SSE_BROKER_URL="memory://")).broker.url == "memory://"


def test_an_overridden_redis_that_is_unknown_is_refused() -> None:
    """Events never go to another place than `redis` of a subclass names, without a word."""
    own = Elsewhere("own", __name__)
    app = serve(own, SSE_BROKER_URL=None, SHARED=False)

    with (
        app.app_context(),
        pytest.raises(InvalidConfig, match=r"Elsewhere\.redis gives a NoneType"),
    ):
        own.publish("x")


def test_without_redis_there_is_no_client(app: Flask) -> None:
    """`sse.redis` of another broker says what it would need."""
    why = (
        r"sse\.redis is of a log in Redis, and this one is memory://: set SSE_BROKER_URL to redis:"
    )
    with app.app_context(), pytest.raises(InvalidConfig, match=why):
        _ = sse.redis
