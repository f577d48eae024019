"""The application of most live tests, with rules and a view that chooses. Who asks is a cookie."""

from __future__ import annotations

from flask import Flask, Response, abort, request
from plain import create_app

from flask_eventstream import EventStream, Grant

__all__ = ["app"]

events = EventStream()
app: Flask = create_app(events)


@events.channel("news")
def everybody() -> bool:
    return True


@events.channel("user:<name>")
def oneself(name: str) -> Grant | bool:
    if "user" not in request.cookies:
        abort(401)
    return Grant(subject=name) if request.cookies["user"] == name else False


@app.route("/mine", methods=["GET", "POST"])
def mine() -> Response:
    return events.stream(f"user:{request.cookies['user']}", "private")
