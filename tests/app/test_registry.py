"""`app.registry`: what of ours lies with an application."""

from __future__ import annotations

import gc
import weakref

import pytest
from flask import Flask

from flask_eventstream import EventStream
from flask_eventstream.app.registry import registry_of, say_once


def an_app() -> Flask:
    app = Flask(__name__)
    app.config.update(SSE_BROKER_URL="memory://", SSE_PUBLIC=True)
    return app


def test_each_application_has_its_own() -> None:
    """The same application gets the same registry, another one another."""
    first, second = an_app(), an_app()

    assert registry_of(first) is registry_of(first)
    assert registry_of(first) is not registry_of(second)


def test_a_warning_is_said_once_per_application(caplog: pytest.LogCaptureFixture) -> None:
    """The same text is logged once for each application, whatever its details are."""
    first, second = an_app(), an_app()
    for app in (first, first, second):
        say_once(app, "%s is odd", app.name)

    assert [record.getMessage() for record in caplog.records] == [f"{__name__} is odd"] * 2


def test_all_of_it_goes_with_the_application() -> None:
    """Nothing of ours keeps an application that nobody has any more."""
    app = an_app()
    stream = EventStream(app)
    with app.app_context():
        stream.publish("x")
    gone = weakref.ref(app)
    del app
    gc.collect()

    assert gone() is None
