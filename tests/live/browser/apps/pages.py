"""Pages that write down what their stream gives them, for the tests to read."""

from __future__ import annotations

from pathlib import Path

from flask import Flask, Response, request, send_from_directory, url_for

from flask_eventstream import sse

POLYFILL = Path(__file__).parents[3] / "js" / "node_modules" / "event-source-polyfill" / "src"

app = Flask(__name__)
app.config.from_prefixed_env()
app.register_blueprint(sse, url_prefix="/stream")

PAGE = """<!doctype html>
<meta charset="utf-8"><link rel="icon" href="data:,"><title>Recorder</title>
{before}
<script>
  const received = [], resets = [], ends = [];
  let opened = 0;
  const source = new EventSource("{stream}");
  source.onopen = () => {{ opened += 1; }};
  for (const type of ["message", "note"]) source.addEventListener(type, (event) =>
    received.push({{ type: event.type, data: event.data, id: event.lastEventId }}));
  source.addEventListener("stream-reset", (event) =>
    resets.push({{ data: event.data, after: received.length }}));
  source.addEventListener("stream-end", (event) => ends.push(event.data));
</script>"""


def page(before: str = "") -> str:
    channels = request.args.getlist("channel")
    return PAGE.format(before=before, stream=url_for("sse.stream", channel=channels))


@app.get("/")
def recorder() -> str:
    """`/?channel=a&channel=b` reads these channels."""
    return page()


@app.get("/polyfill")
def polyfill() -> str:
    """The same in a browser without EventSource: the polyfill finds none and takes its place."""
    script = url_for("polyfill_file")
    return page(f'<script>delete window.EventSource</script><script src="{script}"></script>')


@app.get("/eventsource.min.js")
def polyfill_file() -> Response:
    return send_from_directory(POLYFILL, "eventsource.min.js")
