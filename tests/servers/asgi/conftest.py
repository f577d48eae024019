"""An application that is called as an ASGI server calls it."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from flask import Flask

from flask_eventstream import EventStream


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """The handlers of this process, as they were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def events() -> EventStream:
    """An extension of the test's own."""
    return EventStream()


@pytest.fixture
def app(events: EventStream) -> Flask:
    """An application with a log in memory, its stream at /stream."""
    app = Flask("app_under_test")
    app.config.update(SSE_BROKER_URL="memory://", SSE_MAX_BUFFER_BYTES=100_000)
    app.register_blueprint(events)
    return app
