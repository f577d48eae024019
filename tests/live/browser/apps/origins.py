"""One application at two addresses: pages of one origin read streams of the other."""

from __future__ import annotations

from flask import Flask, request, session

from flask_eventstream import sse

app = Flask(__name__)
app.config.from_prefixed_env()
app.register_blueprint(sse, url_prefix="/stream")


@sse.channel("cookie")
def by_cookie() -> bool:
    return session.get("user") == "ada"


@sse.channel("token")
def by_token() -> bool:
    return request.headers.get("Authorization") == "Bearer a-token"


@app.get("/page")
def page() -> str:
    return '<!doctype html><link rel="icon" href="data:,"><title>Page</title>'


@app.get("/login")
def login() -> str:
    session["user"] = "ada"
    return page()


@app.get("/link/<valid_s>")
def link(valid_s: str) -> str:
    return sse.url("linked", valid_s=float(valid_s), _external=True)
