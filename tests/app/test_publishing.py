"""`app.publishing`: what an EventStream says to its readers."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.json.provider import DefaultJSONProvider

from flask_eventstream import (
    Event,
    EventStream,
    EventTooLarge,
    InvalidChannel,
    InvalidEvent,
    sse,
)
from harness.small_apps import an_app, reading


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
