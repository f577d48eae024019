"""Callbacks of an application at the end of its streams."""

from __future__ import annotations

import threading

import pytest

from flask_eventstream.errors import EndReason
from flask_eventstream.hub.callbacks import CloseCallbacks
from flask_eventstream.hub.request import Reader
from harness.waiting import wait_until


def test_they_run_once_and_elsewhere(caplog: pytest.LogCaptureFixture) -> None:
    """All callbacks of a stream run once when it is closed, not on its thread; one may raise."""
    calls: list[int] = []
    callbacks = CloseCallbacks()
    reader = Reader()

    def fail() -> None:
        raise LookupError

    callbacks.expect(reader, [fail, lambda: calls.append(threading.get_ident())])
    callbacks.closed(Reader(), ("a",), EndReason.LEFT)
    for _ in range(2):
        callbacks.closed(reader, ("a",), EndReason.LEFT)
    wait_until(lambda: calls, what="the callback")

    assert len(calls) == 1
    assert calls[0] != threading.get_ident()
    assert [record.getMessage() for record in caplog.records] == [
        "A callback at the end of an event stream raised"
    ]


def test_a_stream_that_was_not_opened_has_none() -> None:
    """What was forgotten does not run."""
    callbacks = CloseCallbacks()
    reader = Reader()
    callbacks.expect(reader, [pytest.fail])
    callbacks.forget(reader)
    callbacks.closed(reader, ("a",), EndReason.LEFT)

    assert not callbacks._of
