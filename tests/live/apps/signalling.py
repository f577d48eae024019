"""The application of most live tests, with receivers that keep what they are told, and wait."""

from __future__ import annotations

import threading
import time
from typing import Any

from flask import Flask
from plain import create_app

from flask_eventstream import EventStream, stream_ended, stream_opened

__all__ = ["app"]

events = EventStream()
app = create_app(events)
heard: list[list[Any]] = []


@stream_opened.connect_via(app)
def note_opened(_: Flask, **what: object) -> None:
    time.sleep(0.05)
    heard.append(["opened", type(threading.current_thread()).__name__, here(), what])


@stream_ended.connect_via(app)
def note_ended(_: Flask, **what: object) -> None:
    events.publish("one less", channel="ends")
    heard.append(["ended", type(threading.current_thread()).__name__, here(), what])


def here() -> str:
    """Whether a greenlet's own loop runs here: patched code may wait only there."""
    try:
        import gevent  # noqa: PLC0415
    except ImportError:
        return "thread"
    greenlet = type(gevent.getcurrent()).__module__
    return "greenlet" if greenlet.startswith("gevent") else "thread"


@app.get("/heard")
def tell() -> list[Any]:
    return heard
