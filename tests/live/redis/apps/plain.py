"""The application behind the Redis tests: a stream, a page that reads it, and a publisher."""

from __future__ import annotations

from flask import Flask

from flask_eventstream import sse

app = Flask(__name__)
app.config.from_prefixed_env()
app.register_blueprint(sse, url_prefix="/stream")


@app.get("/ping")
def ping() -> str:
    return "pong"


@app.get("/page")
def page() -> str:
    """A page that keeps what it gets."""
    return """<!doctype html><title>Page</title><link rel="icon" href="data:,">
<script>
  const received = [], source = new EventSource("/stream");
  source.addEventListener("new_answers", (event) => received.push(JSON.parse(event.data)));
</script>"""


@app.post("/publish")
def publish() -> str:
    """Publishes as an application would; the answer is the event's id."""
    return sse.publish({"question": "Why?", "tags": ["ä", None]}, type="new_answers")
