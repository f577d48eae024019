"""The application of somebody who has not changed anything yet: flask-sse 1.0.0."""

from __future__ import annotations

from flask import Flask, request
from flask_sse import sse

app = Flask(__name__)
app.config.from_prefixed_env()
app.register_blueprint(sse, url_prefix="/stream")


@app.post("/publish")
def publish() -> str:
    """Publishes the keyword arguments that the request's JSON holds."""
    sse.publish(**request.get_json())
    return "published"
