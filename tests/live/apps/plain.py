"""The application behind the live tests: a stream, and views that show what the worker does."""

from __future__ import annotations

import dataclasses
import itertools
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, current_app, request, session

from flask_eventstream import EventStream

__all__ = ["app", "create_app"]

#: Descriptors that `fill` opened, to be given back.
hoard: list[int] = []


def create_app(events: EventStream | None = None) -> Flask:
    app = Flask(__name__)
    app.secret_key = "no secret"
    app.config.from_prefixed_env()
    if limit := app.config.get("OPEN_FILES"):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    events = events or EventStream()
    events.init_app(app)

    events.before_request(remember)
    app.after_request(sign)

    @app.post("/publish")
    def publish() -> str:
        events.publish(request.get_data(as_text=True), channel=request.args["channel"])
        return str(os.getpid())

    @app.get("/stats")
    def stats() -> dict[str, Any]:
        return {**dataclasses.asdict(events.stats()), "pid": os.getpid()}

    @app.get("/numbers")
    def numbers() -> Response:
        return events.response(count_to_six_for_ever())

    app.add_url_rule("/ping", view_func=ping)
    app.add_url_rule("/large", view_func=large)
    app.add_url_rule("/whoami", view_func=whoami)
    app.add_url_rule("/fork", view_func=fork, methods=["POST"])
    app.add_url_rule("/spawn", view_func=spawn, methods=["POST"])
    app.add_url_rule("/hang", view_func=hang, methods=["POST"])
    app.add_url_rule("/fill", view_func=fill, methods=["POST"])
    app.add_url_rule("/give-back", view_func=give_back, methods=["POST"])
    if channel := app.config.get("PUBLISH_AT_IMPORT"):
        events._state(app).publisher.publish("from the import", channel=channel)
    return app


def remember() -> None:
    if "name" in request.args:
        session["name"] = request.args["name"]


def sign(response: Response) -> Response:
    response.headers["X-Worker"] = str(os.getpid())
    return response


def ping() -> str:
    return f"pong {os.getpid()}"


def large() -> str:
    return "x" * int(request.args["size"])


def whoami() -> str:
    return str(session.get("name", "nobody"))


def count_to_six_for_ever() -> Iterator[int]:
    for number in itertools.cycle(range(1, 7)):
        yield number
        time.sleep(0.02)


def fork() -> str:
    """Fork a child that outlives this process, as a task started by a view may."""
    child = multiprocessing.get_context("fork").Process(target=wait_for_sigterm)
    child.start()
    return str(child.pid)


def wait_for_sigterm() -> None:
    # A server's handler came along with the fork and would only ask its loop to end.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pause()


def spawn() -> str:
    """Start a program that inherits every descriptor that may be inherited."""
    command = [sys.executable, "-c", "import signal; signal.pause()"]
    return str(subprocess.Popen(command, close_fds=False).pid)


def hang() -> str:
    """Never answer."""
    while True:
        time.sleep(1)


def fill() -> str:
    """Use up the descriptors of this process, all but `free`. This request frees one more."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (current_app.config["FILL_UP_TO"], hard))
    try:
        while True:
            hoard.append(os.dup(0))
    except OSError:
        pass
    for _ in range(int(request.args["free"])):
        os.close(hoard.pop())
    return "full"


def give_back() -> str:
    """Undo `fill`."""
    while hoard:
        os.close(hoard.pop())
    return "empty"


app = create_app()
