"""The way out under ASGI: the server's own loop holds the streams.

A request runs through the application on a thread, as under WSGI. Where it answers with a stream,
the response says its head, leaves the rest in a `Slot` of the request's scope, and the thread is
free. The stream goes on as a coroutine of the server: there is no socket to take over, and none is
wanted, for one connection may carry a hundred streams (HTTP/2).

All of it belongs to the server's loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any

try:
    from a2wsgi import WSGIMiddleware
except ImportError as error:
    raise ImportError(
        "flask_eventstream.asgi needs a2wsgi: pip install 'flask-eventstream[asgi]'"
    ) from error

from flask_eventstream.servers.asgi.body import BodyLate, ClientLeft, RequestBody
from flask_eventstream.servers.asgi.home import home_here, not_for_children
from flask_eventstream.servers.asgi.known import (
    find_backlog,
    find_break_off,
    find_transport,
)
from flask_eventstream.servers.asgi.signals import find_signs, stop_handler
from flask_eventstream.servers.asgi.transport import AsgiTransport, Message, Receive, Send
from flask_eventstream.state import SLOT, Slot

__all__ = ["EventStreamASGI"]

Scope = MutableMapping[str, Any]
Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]

_HTTP_OK = 200

#: The rest of the body may come after it, and is no request.
_LAST_ANSWER = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]

_OF_THE_BODY = (b"content-encoding", b"content-length")


class EventStreamASGI:
    """A Flask application for ASGI servers: uvicorn, hypercorn, granian, gunicorn's ASGI worker.

    ::

        asgi = EventStreamASGI(app)  # uvicorn shop:asgi

    Requests run on threads, streams on the server's loop, so that streams hold no thread. A body is
    awaited before a thread is taken: what is larger than 64 KB lies in a file meanwhile, and what
    is larger than the application's ``MAX_CONTENT_LENGTH`` is left to it, which refuses it. Headers
    whose names have an underscore are dropped.

    Args:
        app: The application, or WSGI middleware around it.
        threads: How many requests are answered at once; the rest wait.
        only: Answer every request with this path of the application, such as ``/stream``. For
            mounting nothing but the stream beside the routes of another framework.
    """

    def __init__(self, app: Wsgi, *, threads: int = 10, only: str | None = None) -> None:
        # a2wsgi has its own, narrower types of the same things.
        wsgi: Any = app if only is None else _at(only, app)
        self._inner: Any = WSGIMiddleware(wsgi, workers=threads)
        self._config: Mapping[str, Any] = getattr(app, "config", {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Called by the server for each request, and once for its own life."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await self._inner(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await home_here().stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = RequestBody(scope, receive, max_bytes=self._config.get("MAX_CONTENT_LENGTH"))
        try:
            await body.take_in()
            scope = {**scope, "headers": body.headers()}
            await self._run(scope, body, receive, send)
        except BodyLate:
            await send({"type": "http.response.start", "status": 408, "headers": _LAST_ANSWER})
            await send({"type": "http.response.body", "body": b"the body came too slowly\n"})
        except ClientLeft:
            pass  # nobody is there to be answered
        finally:
            body.close()

    async def _run(self, scope: Scope, body: RequestBody, receive: Receive, send: Send) -> None:
        """Run the application on a thread, and stay with the stream that it may leave."""
        transport = find_transport(receive, send)
        outlet = AsgiTransport(
            send,
            break_off=find_break_off(scope, transport, send),
            backlog=find_backlog(scope, send),
        )
        slot = Slot(outlet)
        answer = _Answer(slot, outlet, send)
        try:
            await self._inner({**scope, SLOT: slot}, body.receive, answer.send)
        except BaseException:
            outlet.lose()
            raise
        finally:
            if slot.adoption is not None and slot.state is not None:
                if answer.status != _HTTP_OK:
                    outlet.lose()  # middleware made another answer of it
                home_here().adopt(
                    slot.state, slot.adoption, find_signs(receive, send, stop_handler())
                )
        if slot.adoption is not None:
            with not_for_children(transport):
                await outlet.stay(receive)


class _Answer:
    """What the application answers: sent as it comes, or kept for the stream that it left."""

    def __init__(self, slot: Slot, outlet: AsgiTransport, send: Send) -> None:
        self.status = 0
        self._slot = slot
        self._outlet = outlet
        self._send = send
        self._encoded = False
        """By middleware, which has compressed the empty body that it was given."""

    async def send(self, message: Message) -> None:
        """What a2wsgi calls."""
        self.status = message.get("status", self.status)
        if self._slot.adoption is None or self.status != _HTTP_OK:
            await self._send(message)
        elif message["type"] == "http.response.start":
            names = {name.lower() for name, _ in message["headers"]}
            self._encoded = b"content-encoding" in names
            self._outlet.head = {**message, "headers": list(_unframed(message["headers"]))}
        elif message["type"] == "http.response.body" and not self._encoded:
            self._outlet.write(message.get("body", b""))  # what middleware adds


def _unframed(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """The headers without what middleware says of a body that is not the stream's."""
    for name, value in headers:
        if name.lower() not in _OF_THE_BODY:
            yield name, value


def _at(path: str, app: Wsgi) -> Wsgi:
    def call(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return app({**environ, "PATH_INFO": path}, start_response)

    return call
