"""The signals at a stream's beginning and end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, current_app

from flask_eventstream import EventStream, stream_ended, stream_opened
from flask_eventstream.app.signals import Signals
from flask_eventstream.errors import EndReason
from flask_eventstream.hub.request import Reader
from flask_eventstream.worker import WORKER
from harness.hand_server import HandServer
from harness.waiting import wait_until

Heard = list[tuple[Any, ...]]


@pytest.fixture
def app() -> Flask:
    """An application with a log in memory, and room for one stream."""
    app = Flask("app_under_test")
    app.config.update(SSE_BROKER_URL="memory://", SSE_PUBLIC=True, SSE_MAX_STREAMS=1)
    EventStream(app)
    return app


@pytest.fixture
def heard(app: Flask) -> Iterator[Heard]:
    """What receivers of both signals are told of the application."""
    heard: Heard = []

    def note_opened(sender: Flask, **what: object) -> None:
        heard.append(("opened", sender, current_app.name, threading.current_thread(), what))

    def note_ended(sender: Flask, **what: object) -> None:
        heard.append(("ended", sender, current_app.name, threading.current_thread(), what))

    with stream_opened.connected_to(note_opened, app), stream_ended.connected_to(note_ended, app):
        yield heard


def test_a_stream_is_told_of_twice(app: Flask, heard: Heard) -> None:
    """Receivers hear of a stream's beginning and its end, from its application, in its context."""
    with HandServer(app).request("/stream?channel=b&channel=a") as page:
        page.opened()
        wait_until(lambda: heard, what="the beginning")
    wait_until(lambda: len(heard) == 2, what="the end")
    (opened, ended) = heard
    duration_s = ended[4].pop("duration_s")

    assert [each[:3] for each in heard] == [
        ("opened", app, "app_under_test"),
        ("ended", app, "app_under_test"),
    ]
    assert opened[4] == {"channels": ("a", "b"), "subject": None}
    assert ended[4] == {"channels": ("a", "b"), "subject": None, "reason": "left"}
    assert 0 < duration_s < 10
    assert threading.current_thread() not in {opened[3], ended[3]}


def test_one_that_is_sent_away_was_never_open(app: Flask, heard: Heard) -> None:
    """Nothing is told of a reader who was sent away."""
    server = HandServer(app)
    with server.request() as first:
        first.opened()
        with server.request() as second:
            second.end()
    wait_until(lambda: len(heard) == 2, what="the end of the first")
    WORKER.finish()

    assert [each[0] for each in heard] == ["opened", "ended"]


def test_a_receiver_that_raises_stops_nobody(
    app: Flask, heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    """What a receiver raises is logged; the others are called, and the stream goes on."""

    def fail(_: Flask, **__: object) -> None:
        raise LookupError

    def fail_too(_: Flask, **__: object) -> None:
        raise KeyError

    with (
        stream_opened.connected_to(fail),
        stream_opened.connected_to(fail_too),
        HandServer(app).request() as page,
    ):
        page.opened()
        wait_until(lambda: heard, what="the beginning")
        WORKER.finish()
    assert caplog.messages == ["A receiver of the signal stream-opened raised"] * 2


def test_receivers_are_made_callable_as_views_are(
    app: Flask, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver may be `async` where views may: the application makes it callable."""
    made: list[object] = []

    def ensure_sync(function: object) -> object:
        made.append(function)
        return function

    monkeypatch.setattr(app, "ensure_sync", ensure_sync)
    with HandServer(app).request() as page:
        page.opened()
        wait_until(lambda: heard, what="the beginning")

    assert len(made) >= 1


def test_another_application_is_another_sender(app: Flask, heard: Heard) -> None:
    """Who listens to one application hears nothing of another."""
    other = Flask("another")
    other.config.update(SSE_BROKER_URL="memory://", SSE_PUBLIC=True)
    EventStream(other)
    with HandServer(other).request() as page:
        page.opened()
    with HandServer(app).request() as page:
        page.opened()
        wait_until(lambda: heard, what="the beginning")

    assert {each[1] for each in heard} == {app}


def test_nobody_listens(monkeypatch: pytest.MonkeyPatch, app: Flask) -> None:
    """Where nothing is connected nothing is kept, posted or sent."""
    monkeypatch.setattr(WORKER, "post", pytest.fail)
    signals = Signals(app)
    reader = Reader()
    signals.opened(reader, ("a",))

    assert not signals._opened_at_s

    signals.closed(reader, ("a",), EndReason.LEFT)


def test_an_application_that_is_gone(heard: Heard) -> None:
    """The signals keep no application alive."""
    signals = Signals(Flask("short-lived"))
    signals.opened(Reader(), ("a",))
    WORKER.finish()

    assert heard == []
