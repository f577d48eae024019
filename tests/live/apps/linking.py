"""The application of most live tests, with a view that makes links."""

from __future__ import annotations

from plain import create_app

from flask_eventstream import EventStream
from flask_eventstream.asgi import EventStreamASGI

__all__ = ["app", "asgi"]

events = EventStream()
app = create_app(events)
asgi = EventStreamASGI(app)


@app.get("/link/<channel>/<valid_s>")
def link(channel: str, valid_s: str) -> str:
    return events.url(channel, valid_s=float(valid_s))
