"""A chat: every message is published, and every open page reads the stream."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from flask import Flask, abort, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from flask_eventstream import sse

MAX_NAME_CHARACTERS = 30  # one line above a bubble on a phone
MAX_TEXT_CHARACTERS = 1000  # a message, not a document


def kept_key(folder: Path) -> str:
    """A key of this copy alone, made at the first start; all workers find the same one."""
    folder.mkdir(exist_ok=True)
    mine, kept = folder / f"key-{os.getpid()}", folder / "key"
    mine.write_text(secrets.token_hex())
    with suppress(FileExistsError):
        os.link(mine, kept)  # at once, or not at all: a worker never reads half of it
    mine.unlink()
    return kept.read_text()


app = Flask(__name__)
# Any setting may come from the environment: FLASK_SECRET_KEY, FLASK_SSE_BROKER_URL, ...
app.config.from_prefixed_env()
app.config["SECRET_KEY"] = app.config["SECRET_KEY"] or kept_key(Path(app.instance_path))
# Or a form on somebody else's page could post for whoever is logged in here.
app.config["SESSION_COOKIE_SAMESITE"] = "Lax"
app.register_blueprint(sse, url_prefix="/stream")


@sse.channel("sse")
def only_who_is_in_the_chat() -> bool:
    """Asked before each stream is opened."""
    return "user" in session


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
    if "user" not in session:
        abort(401)
    text = request.form.get("message", "").strip()[:MAX_TEXT_CHARACTERS]
    if not text:
        abort(400)
    at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    sse.publish({"user": session["user"], "text": text, "at": at})
    return "", 204
