"""People who read: a rule that asks who comes, and views that take rights away."""

from __future__ import annotations

import os

from flask import Flask, Response, abort, redirect, request, session

from flask_eventstream import EventStream, Grant

app = Flask(__name__)
app.secret_key = "no secret"
app.config.from_prefixed_env()
events = EventStream(app)

PAGE = """<!doctype html>
<meta charset="utf-8"><link rel="icon" href="data:,"><title>{user}</title>
<h1>{user}</h1>
<script>
  const received = [];
  let opened = 0;
  const source = new EventSource("/stream?channel=private");
  source.onopen = () => {{ opened += 1; }};
  source.onmessage = (event) => received.push(event.data);
</script>"""


@events.channel("a")
@events.channel("private")
def may_read() -> Grant:
    # Programs say who they are, browsers are logged in.
    subject = request.args.get("as") or session.get("user")
    if subject is None:
        abort(401)
    return Grant(subject=subject)


@app.get("/")
def page() -> str:
    return PAGE.format(user=session.get("user", "nobody"))


@app.get("/login/<user>")
def login(user: str) -> object:
    session["user"] = user
    return redirect("/")


@app.post("/logout")
def logout() -> str:
    events.disconnect(subject=session.pop("user"))
    return "bye\n"


@app.get("/ping")
def ping() -> str:
    return f"pong {os.getpid()}"


@app.after_request
def sign(response: Response) -> Response:
    response.headers["X-Worker"] = str(os.getpid())
    return response
