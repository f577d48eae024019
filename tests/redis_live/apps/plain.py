"""The application behind the Redis tests: a stream, and nothing else."""

from __future__ import annotations

from flask import Flask

from flask_eventstream import sse

app = Flask(__name__)
app.config.from_prefixed_env()
app.register_blueprint(sse, url_prefix="/stream")


@app.get("/ping")
def ping() -> str:
    return "pong"


@app.post("/publish")
def publish() -> str:
    """Publishes as an application would; the answer is the event's id."""
    return sse.publish({"question": "Why?", "tags": ["ä", None]}, type="new_answers")
