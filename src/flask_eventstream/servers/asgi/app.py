"""The way out under ASGI: the server's own loop holds the streams.

A request runs through the application on a thread, as under WSGI. Where it answers with a stream,
the response says its head, leaves the rest in a `Slot` of the request's scope, and the thread is
free. The stream goes on as a coroutine of the server: there is no socket to take over, and none is
wanted, for one connection may carry a hundred streams (HTTP/2).

All of it belongs to the server's loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, MutableMapping
from typing import Any

try:
    from a2wsgi import WSGIMiddleware
except ImportError as error:
    raise ImportError(
        "flask_eventstream.asgi needs a2wsgi: pip install 'flask-eventstream[asgi]'"
    ) from error

from flask_eventstream.servers.asgi.home import AsgiHome, not_for_children, stop_handler
from flask_eventstream.servers.asgi.known import (
    find_backlog,
    find_break_off,
    find_signs,
    find_transport,
)
from flask_eventstream.servers.asgi.transport import AsgiTransport, Message, Receive, Send
from flask_eventstream.state import SLOT, Slot

__all__ = ["EventStreamASGI"]

Scope = MutableMapping[str, Any]
Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]

_HTTP_OK = 200

_OF_THE_BODY = (b"content-encoding", b"content-length")


class EventStreamASGI:
    """A Flask application for ASGI servers: uvicorn, hypercorn, granian, gunicorn's ASGI worker.

    ::

        asgi = EventStreamASGI(app)  # uvicorn shop:asgi

    Requests run on threads, streams on the server's loop, so that streams hold no thread.

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
        self._home: AsgiHome | None = None

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
        await self._home_here().stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        transport = find_transport(receive, send)
        outlet = AsgiTransport(
            send,
            break_off=find_break_off(scope, transport, send),
            backlog=find_backlog(scope, send),
        )
        slot = Slot(outlet)
        status = 0
        encoded = False  # by middleware, which has compressed the empty body that it was given

        async def send_unless_stream(message: Message) -> None:
            nonlocal status, encoded
            status = message.get("status", status)
            if slot.adoption is None or status != _HTTP_OK:
                await send(message)
            elif message["type"] == "http.response.start":
                encoded = any(name.lower() == b"content-encoding" for name, _ in message["headers"])
                outlet.head = {**message, "headers": list(_unframed(message["headers"]))}
            elif message["type"] == "http.response.body" and not encoded:
                outlet.write(message.get("body", b""))  # what middleware adds

        async def receive_body() -> Message:
            # a2wsgi wants a coroutine, and granian gives another awaitable.
            return await receive()

        try:
            await self._inner({**scope, SLOT: slot}, receive_body, send_unless_stream)
        except BaseException:
            outlet.lose()
            raise
        finally:
            if slot.adoption is not None and slot.state is not None:
                if status != _HTTP_OK:
                    outlet.lose()  # middleware made another answer of it
                self._home_here().adopt(
                    slot.state, slot.adoption, find_signs(receive, send, stop_handler())
                )
        if slot.adoption is not None:
            with not_for_children(transport):
                await outlet.stay(receive)

    def _home_here(self) -> AsgiHome:
        loop = asyncio.get_running_loop()
        if self._home is None or self._home.loop is not loop:
            self._home = AsgiHome(loop)
        return self._home


def _unframed(headers: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """The headers without what middleware says of a body that is not the stream's."""
    for name, value in headers:
        if name.lower() not in _OF_THE_BODY:
            yield name, value


def _at(path: str, app: Wsgi) -> Wsgi:
    def call(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return app({**environ, "PATH_INFO": path}, start_response)

    return call
