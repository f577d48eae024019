"""The application of most live tests, with rules that give subjects, and a view that counts."""

from __future__ import annotations

import os
from typing import Any

from flask import request
from plain import create_app

from flask_eventstream import EventStream, Grant
from flask_eventstream.presence import census

__all__ = ["app"]

census.LEASE_S = float(os.environ.get("LEASE_S", census.LEASE_S))

events = EventStream()
app = create_app(events)


@events.channel("<path:name>")
def anybody(name: str) -> Grant:  # noqa: ARG001
    return Grant(subject=request.args.get("subject"))


@app.get("/readers")
def count() -> list[Any]:
    found = events.readers(request.args["channel"])
    return [found.streams, found.subjects]
