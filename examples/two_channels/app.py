"""Two channels: everybody reads `sse`, and only the admin reads `logs`."""

from __future__ import annotations

from flask import Flask, abort, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from flask_eventstream import sse

app = Flask(__name__)
app.config["SECRET_KEY"] = "for development only"  # a real one: FLASK_SECRET_KEY
app.config.from_prefixed_env()


@sse.before_request
def only_the_admin_reads_logs() -> None:
    """Decide before the stream opens. It may name several channels: look at all of them."""
    if "logs" in request.args.getlist("channel") and session.get("user") != "admin":
        abort(403)


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
