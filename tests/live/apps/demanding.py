"""The same application with what requests and middleware may bring beside: bodies, and much."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any
from urllib.parse import parse_qs

from flask import Response, request, stream_with_context
from plain import create_app

from flask_eventstream import Event, EventStream

__all__ = ["app"]

Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Adds:
    """Adds to a response what the query asks for: ``add_head`` and ``add_body``, in bytes."""

    def __init__(self, inner: Wsgi) -> None:
        self.inner = inner

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        query = parse_qs(environ.get("QUERY_STRING", ""))
        head = "x" * int(query.get("add_head", ["0"])[0])
        tail = b"x" * int(query.get("add_body", ["0"])[0])

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, [*headers, ("X-Much", head)], exc_info)

        body = self.inner(environ, start if head else start_response)
        return chain(body, [tail]) if tail else body  # and closes nothing


events = EventStream()
app = create_app(events)
app.wsgi_app = Adds(app.wsgi_app)  # type: ignore[method-assign]


@app.after_request
def forbid(response: Response) -> Response:
    if "forbid" in request.args:
        response.status_code = 403
    return response


@app.post("/lengths")
def lengths() -> Response:
    """Read the body as late as can be: when the stream is open and the request over."""

    def read_late() -> Iterator[Event]:
        yield Event(str(len(request.get_data())), type="length")
        yield Event("", type="done")

    return events.response(stream_with_context(read_late()))


@app.post("/deaf")
def deaf() -> Response:
    """Never look at the body."""
    return events.response(Event(str(number)) for number in range(3))
