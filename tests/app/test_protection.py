"""`app.protection`: guards of an EventStream, asked before each stream."""

from __future__ import annotations

import pytest
from flask import Response, abort, request

from flask_eventstream import (
    EventStream,
)
from harness.small_apps import an_app


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
