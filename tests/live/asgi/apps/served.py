"""The application behind the ASGI tests: a stream, ordinary views, and a database."""

from __future__ import annotations

import dataclasses
import itertools
import os
import resource
import signal
import time
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, request, session
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import text

from flask_eventstream import EventStream
from flask_eventstream.asgi import EventStreamASGI

__all__ = ["app", "asgi"]

app = Flask(__name__)
app.secret_key = "no secret"
app.config.from_prefixed_env()
if limit := app.config.get("OPEN_FILES"):
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
app.config.setdefault("SQLALCHEMY_DATABASE_URI", "sqlite:///:memory:")
database = SQLAlchemy(app)
events = EventStream(app)


@app.before_request
def ask_database() -> None:
    if database.session.execute(text("select 1")).scalar() != 1:
        raise AssertionError("the database does not count")


@events.before_request
def remember() -> None:
    if "name" in request.args:
        session["name"] = request.args["name"]


@app.after_request
def sign(response: Response) -> Response:
    response.headers["X-Worker"] = str(os.getpid())
    return response


@app.post("/publish")
def publish() -> str:
    events.publish(request.get_data(as_text=True), channel=request.args["channel"])
    return str(os.getpid())


@app.get("/stats")
def stats() -> dict[str, Any]:
    # This request has a connection of the pool, too: it asks the database before this.
    database.session.remove()
    checked_out = database.engine.pool.checkedout()  # type: ignore[attr-defined]
    return {**dataclasses.asdict(events.stats()), "pid": os.getpid(), "checked_out": checked_out}


@app.get("/ping")
def ping() -> str:
    return f"pong {os.getpid()}"


@app.get("/whoami")
def whoami() -> str:
    return str(session.get("name", "nobody"))


@app.post("/fork")
def fork() -> str:
    """Fork a child that outlives this process. hypercorn's are daemons of multiprocessing."""
    child = os.fork()
    if not child:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pause()
    return str(child)


@app.get("/numbers")
def numbers() -> Response:
    return events.response(count_to_six_for_ever())


@app.post("/count")
def count() -> str:
    return f"counted {len(request.get_data())}"


@app.get("/headers")
def headers() -> dict[str, str]:
    return dict(request.headers)


@app.get("/three")
def three() -> Response:
    return events.response(iter([1, 2, 3]))


@app.get("/broken")
def broken() -> str:
    raise RuntimeError("this view is broken")


def count_to_six_for_ever() -> Iterator[int]:
    for number in itertools.cycle(range(1, 7)):
        yield number
        time.sleep(0.02)


asgi = EventStreamASGI(app, threads=2)
