"""A chat: every message is published, and every open page reads the stream."""

from __future__ import annotations

from datetime import datetime, timezone

from flask import Flask, abort, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from flask_eventstream import sse

MAX_NAME_CHARACTERS = 30  # one line above a bubble on a phone
MAX_TEXT_CHARACTERS = 1000  # a message, not a document

app = Flask(__name__)
# Good enough to try the example. A real one gets FLASK_SECRET_KEY from its environment, as any
# other setting: FLASK_SSE_BROKER_URL, FLASK_SSE_HEARTBEAT_S, ...
app.config["SECRET_KEY"] = "for development only"
app.config.from_prefixed_env()
app.register_blueprint(sse, url_prefix="/stream")


@app.get("/")
def chat() -> str | Response:
    if "user" not in session:
        return redirect(url_for("login"))
    return render_template("chat.html", user=session["user"], max_text=MAX_TEXT_CHARACTERS)


@app.route("/login", methods=["GET", "POST"])
def login() -> str | Response:
    """Ask for a name. There is no password: this is a chat among friends."""
    user = request.form.get("user", "").strip()[:MAX_NAME_CHARACTERS]
    if user:
        session["user"] = user
        return redirect(url_for("chat"))
    return render_template("login.html", user=session.get("user", ""), max_name=MAX_NAME_CHARACTERS)


@app.post("/post")
def post() -> tuple[str, int]:
    """Send one message to everybody. The sender's own page gets it from the stream, too."""
    text = request.form.get("message", "").strip()[:MAX_TEXT_CHARACTERS]
    if not text:
        abort(400)
    at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    sse.publish({"user": session.get("user", "anonymous"), "text": text, "at": at})
    return "", 204
