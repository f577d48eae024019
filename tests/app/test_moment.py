"""What a request notes before somebody decides on it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, Response

from flask_eventstream import EventStream, Grant
from flask_eventstream.hub.request import Reader


@pytest.fixture
def app() -> Flask:
    app = Flask(__name__)
    app.config.update(SSE_BROKER_URL="memory://")
    return app


@pytest.fixture
def stream(app: Flask) -> Iterator[EventStream]:
    stream = EventStream(app)
    yield stream
    stream._state(app).broker.close()


def reader_of(app: Flask, url: str) -> Reader:
    """Who reads, of a request's stream that no server was given."""
    made: list[Any] = []

    def keep(response: Response) -> Response:
        made.append(response)
        return app.response_class()

    app.after_request(keep)
    app.test_client().get(url)
    reader: Reader = made[-1].opening.request.reader
    return reader


def test_a_rule_notes_the_moment(app: Flask, stream: EventStream) -> None:
    """A rule's stream has the moment before the rule was asked, and what the log had then."""
    ordered: list[str] = []

    @stream.channel("a")
    def may_read() -> Grant:
        stream.disconnect(subject="7")  # while it is decided
        ordered.append("done")
        return Grant(subject="7")

    broker: Any = stream._state(app).broker
    before = broker.control("{}")

    reader = reader_of(app, "/stream?channel=a")

    assert ordered
    assert reader.control_position == before
    assert reader.decided_at_s is not None


def test_a_guard_notes_the_moment(app: Flask, stream: EventStream) -> None:
    """The same for a guard, which is asked before the view."""
    broker: Any = stream._state(app).broker
    before = broker.control("{}")

    @stream.before_request
    def guard() -> None:
        stream.disconnect("a")

    reader = reader_of(app, "/stream?channel=a")

    assert reader.control_position == before


def test_a_view_notes_the_moment(app: Flask, stream: EventStream) -> None:
    """The same where a view chose the channels."""

    @app.get("/mine")
    def mine() -> Response:
        return stream.stream("a")

    assert reader_of(app, "/mine").decided_at_s is not None


@pytest.mark.usefixtures("stream")
def test_where_everybody_may_read_nothing_is_noted(app: Flask) -> None:
    """An open application asks its broker nothing more, and its streams outlive a lost log."""
    reader = reader_of(app, "/stream?channel=a")

    assert reader.decided_at_s is None
    assert reader.control_position is None
