"""The application of the benchmark on flask-sse 1.0, as its manual shows it."""

from __future__ import annotations

import os

from flask import Flask, request
from flask_sse import sse
from made import burst, private

app = Flask(__name__)
app.config["REDIS_URL"] = os.environ["REDIS_URL"]
app.register_blueprint(sse, url_prefix="/stream")


def publish(data: str, channel: str) -> None:
    """Publish as any application does."""
    sse.publish(data, channel=channel)


@app.get("/ping")
def ping() -> str:
    """The ordinary request of this application."""
    return "pong"


@app.post("/publish")
def publish_one() -> tuple[str, int]:
    """Publish the body."""
    publish(request.get_data(as_text=True), request.args["channel"])
    return "", 204


@app.post("/burst")
def publish_burst() -> tuple[str, int]:
    """Publish many events, one by one."""
    burst(request.args, publish)
    return "", 204


@app.post("/private")
def publish_private() -> tuple[str, int]:
    """Publish one event to each of many channels."""
    private(request.args, publish)
    return "", 204
