"""Two channels: everybody reads `sse`, and only the admin reads `logs`."""

from __future__ import annotations

import secrets

from flask import Flask, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from flask_eventstream import sse

app = Flask(__name__)
app.config.from_prefixed_env()
# Several workers need one that they share: FLASK_SECRET_KEY.
app.config["SECRET_KEY"] = app.config["SECRET_KEY"] or secrets.token_hex()
app.config["SESSION_COOKIE_SAMESITE"] = "Lax"


@sse.channel("sse")
def everybody() -> bool:
    return True


@sse.channel("logs")
def only_the_admin() -> bool:
    """Decide before the stream opens."""
    return session.get("user") == "admin"


app.register_blueprint(sse, url_prefix="/stream")


@app.get("/")
def index() -> str:
    return render_template("index.html", user=session.get("user", "guest"))


@app.post("/login")
def login() -> Response:
    """Be whoever you say you are: the example is about channels, not about passwords."""
    session["user"] = request.form.get("user", "guest")
    return redirect(url_for("index"))


@app.post("/say")
def say() -> tuple[str, int]:
    text = request.form.get("text", "").strip() or "Hello"
    user = session.get("user", "guest")
    sse.publish(text)  # the channel `sse` is the default
    sse.publish({"user": user, "address": request.remote_addr, "length": len(text)}, channel="logs")
    return "", 204
