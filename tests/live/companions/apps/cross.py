"""A stream that pages of another origin read, with the visitor's cookie."""

from __future__ import annotations

import os
from typing import Any

from flask import Flask, abort, session
from flask_cors import CORS

from flask_eventstream import EventStream

__all__ = ["app"]

app = Flask(__name__)
app.secret_key = "no secret"
app.config.from_prefixed_env()
CORS(app, origins=[r"http://127\.0\.0\.1:\d+"], supports_credentials=True)
events = EventStream(app)


@events.before_request
def only_visitors() -> None:
    if "name" not in session:
        abort(401)


@app.get("/visit")
def visit() -> str:
    session["name"] = "Ada"
    return "welcome"


@app.get("/ping")
def ping() -> str:
    return f"pong {os.getpid()}"


@app.get("/stats")
def stats() -> dict[str, Any]:
    return {"streams": events.stats().streams, "opened": events.stats().opened}
