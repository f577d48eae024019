"""The application that the doctor looks at: a stream, as its users have it."""

from __future__ import annotations

import gzip
import io
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from flask import Flask, redirect, request

from flask_eventstream import EventStream
from flask_eventstream.asgi import EventStreamASGI

__all__ = ["app", "asgi"]

Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]

app = Flask(__name__)
app.config.from_prefixed_env()
events = EventStream(app)

if app.config.get("RULE") == "channels":

    @events.channel("<path:name>")
    def nobody(name: str) -> bool:  # noqa: ARG001
        return False


@events.before_request
def ask() -> Any:
    """A rule, where the test wants one: a cookie, or else an error or the login page."""
    wanted = app.config.get("RULE")
    is_user, is_news = "user" in request.cookies, request.args.get("channel") == "news"
    let_in = {None: True, "channels": True, "channel": is_news, "both": is_user and is_news}
    if let_in.get(wanted, is_user):
        return None
    return redirect("/login") if wanted == "login" else ("no", 401)


@app.get("/login")
def login() -> str:
    return "who are you?"


class Gzip:
    """Compresses every response, and waits until there is enough of it, as middleware does."""

    def __init__(self, inner: Wsgi) -> None:
        self._inner = inner

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if "gzip" not in environ.get("HTTP_ACCEPT_ENCODING", ""):
            return self._inner(environ, start_response)

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            return start_response(status, [*headers, ("Content-Encoding", "gzip")], *more)

        return compressed(self._inner(environ, start))


def compressed(pieces: Iterable[bytes]) -> Iterator[bytes]:
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb") as file:
        for piece in pieces:
            file.write(piece)
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue()


if app.config.get("GZIP"):
    app.wsgi_app = Gzip(app.wsgi_app)  # type: ignore[method-assign]
asgi = EventStreamASGI(app)
