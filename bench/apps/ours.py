"""The application of the benchmark on Flask-EventStream, under WSGI and ASGI."""

from __future__ import annotations

import os
import time

import redis
from flask import Flask, request
from made import burst, made, private

from flask_eventstream import sse
from flask_eventstream.asgi import EventStreamASGI

#: What a view burns the processor with between two looks at the clock.
BURN_STEPS = 10_000

app = Flask(__name__)
app.config.from_prefixed_env()
app.config["SSE_STREAM_LIFETIME_S"] = 0
app.register_blueprint(sse, url_prefix="/stream")
asgi = EventStreamASGI(app)
bare = redis.Redis.from_url(os.environ.get("BARE_REDIS_URL", "redis://"))


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


@app.post("/together")
def publish_together() -> tuple[str, int]:
    """Publish as many with one call."""
    first, size = int(request.args["first"]), int(request.args.get("size", "0"))
    events = [made(first + number, size) for number in range(int(request.args["count"]))]
    sse.publish_many(events, channel=request.args["channel"])
    return "", 204


@app.post("/private")
def publish_private() -> tuple[str, int]:
    """Publish one event to each of many channels."""
    private(request.args, publish)
    return "", 204


@app.post("/private-to")
def publish_private_to() -> tuple[str, int]:
    """Publish one event to many channels with one call."""
    channels = [f"c{number}" for number in range(int(request.args["count"]))]
    sse.publish_to(channels, made(int(request.args["first"])))
    return "", 204


@app.post("/rate")
def rate() -> dict[str, float]:
    """Publish one at a time, and say how long it took; ``bare`` is redis-py's PUBLISH alone."""
    count, is_bare = int(request.args["count"]), "bare" in request.args
    if is_bare:
        bare.publish("warm", "up")
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    for number in range(count):
        if is_bare:
            bare.publish("rate", made(number, 100))
        else:
            sse.publish(made(number, 100), channel="rate")
    return {
        "per_s": count / (time.perf_counter() - began_s),
        "cpu_us": (time.process_time() - began_cpu_s) / count * 1e6,
    }


@app.get("/burn")
def burn() -> str:
    """Keep the processor busy with Python for some seconds."""
    until_s = time.monotonic() + float(request.args["seconds"])
    while time.monotonic() < until_s:
        sum(range(BURN_STEPS))
    return "burnt"
