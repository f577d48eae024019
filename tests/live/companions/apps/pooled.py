"""A shop as many are: a database session that each request uses and teardown gives back."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, g, request, stream_with_context
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text

from flask_eventstream import EventStream
from flask_eventstream.asgi import EventStreamASGI

__all__ = ["app", "asgi"]

# Far fewer connections than streams. Who waits for one fails soon, and does not wait for another
# request's end.
POOL = {"pool_size": 5, "max_overflow": 0, "pool_timeout": 2}

app = Flask(__name__)
app.config.from_prefixed_env()
app.config["SQLALCHEMY_ENGINE_OPTIONS"] = POOL
database = SQLAlchemy(app)
events = EventStream(app)


def ask_database() -> int:
    return int(database.session.execute(text("select 7")).scalar() or 0)


@app.before_request
def load_user() -> None:
    # A `g` that another request left here would show.
    if "user" in g:
        raise AssertionError("the request is not the only one in its context")
    g.user = ask_database()


@app.get("/page")
def page() -> str:
    return f"page for {g.user + ask_database()}"


@app.get("/ping")
def ping() -> str:
    return f"pong {os.getpid()}"


@app.post("/publish")
def publish() -> str:
    events.publish(request.get_data(as_text=True), channel=request.args["channel"])
    return str(os.getpid())


@app.get("/lent")
def lent() -> Response:
    return events.response(stream_with_context(lines()))


def lines() -> Iterator[str]:
    yield f"{request.args['name']} {g.user} {ask_database()}"


@app.get("/stats")
def stats() -> dict[str, Any]:
    # This request has a connection of the pool, too: it asked the database before this.
    database.session.remove()
    return {
        **dataclasses.asdict(events.stats()),
        "checked_out": database.engine.pool.checkedout(),  # type: ignore[attr-defined]
        "flask": importlib.metadata.version("flask"),
        "werkzeug": importlib.metadata.version("werkzeug"),
    }


asgi = EventStreamASGI(app, threads=4)
