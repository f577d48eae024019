"""Named events: the page listens for `new_answers`, and closes its stream on `server_closed`."""

from __future__ import annotations

from flask import Flask, render_template, request

from flask_eventstream import sse

app = Flask(__name__)
app.config.from_prefixed_env()
app.register_blueprint(sse, url_prefix="/stream")


@sse.channel("sse")
def everybody() -> bool:
    return True


@app.get("/")
def index() -> str:
    return render_template("index.html")


@app.post("/notifications")
def notifications() -> tuple[str, int]:
    answer = {
        "question": request.form.get("question", "How are you?"),
        "value": request.form.get("value", "Fine, thank you"),
        "who": request.form.get("who", "somebody"),
    }
    sse.publish(answer, type="new_answers")
    return "Notification sent\n", 202


@app.post("/close")
def close() -> tuple[str, int]:
    """Ask every page to close its stream. Each page decides; `sse.end("sse")` would not ask."""
    sse.publish("The server takes no more answers.", type="server_closed")
    return "Pages told\n", 202
