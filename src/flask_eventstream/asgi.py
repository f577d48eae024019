"""The way out under ASGI: the server's own loop holds the streams.

A request runs through the application on a thread, as under WSGI. Where it answers with a stream,
the response says its head, leaves the rest in a `Slot` of the request's scope, and the thread is
free. The stream goes on as a coroutine of the server: there is no socket to take over, and none is
wanted, for one connection may carry a hundred streams (HTTP/2).

All of it belongs to the server's loop. What is looked for in a server are attributes, never
versions; where they are not found, only what is said there is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import weakref
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, MutableMapping
from typing import Any

try:
    from a2wsgi import WSGIMiddleware
except ImportError as error:
    raise ImportError(
        "flask_eventstream.asgi needs a2wsgi: pip install 'flask-eventstream[asgi]'"
    ) from error

from flask_eventstream.hub import Hub
from flask_eventstream.native import register_at_fork
from flask_eventstream.service import SLOT, Service, Slot
from flask_eventstream.stream import Adoption

__all__ = ["EventStreamASGI"]

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]

_HTTP_OK = 200

#: What may wait for a client until the hub says otherwise: asyncio's own bound.
_HIGH_BYTES = 64 * 1024

#: Seconds for all streams to end when the server stops; servers have their own patience after it.
_STOP_S = 1.0

#: How often a server is looked at that may stop without a signal. Servers look at themselves as
#: often (uvicorn 0.1 s, gunicorn 1 s).
_LOOK_S = 0.1

#: Seconds that a server gets to notice that we broke a connection off.
_BREAK_OFF_S = 1.0

#: RFC 9113, section 7: the stream is no longer needed.
_HTTP2_CANCEL = 0x8

_OF_THE_BODY = (b"content-encoding", b"content-length")

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)


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
        self._home: _Home | None = None

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
        transport = _transport(receive, send)
        outlet = _Outlet(
            send, break_off=_break_off(scope, transport, send), backlog=_backlog(scope, send)
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
            if slot.adoption is not None and slot.service is not None:
                if status != _HTTP_OK:
                    outlet.lose()  # middleware made another answer of it
                self._home_here().adopt(slot.service, slot.adoption, _signs(receive, send))
        if slot.adoption is not None:
            with _not_for_children(transport):
                await outlet.stay(receive)

    def _home_here(self) -> _Home:
        loop = asyncio.get_running_loop()
        if self._home is None or self._home.loop is not loop:
            self._home = _Home(loop)
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


class _Outlet(asyncio.Transport):
    """What a stream takes for its transport: it writes to the server's ``send``.

    The server does the framing. What it does not take at once waits here, and counts.
    """

    def __init__(
        self,
        send: Send,
        *,
        break_off: Callable[[], object] | None,
        backlog: Callable[[], int] | None,
    ) -> None:
        super().__init__()
        self.head: Message | None = None
        """The response's start. It leaves with the first byte, when the hub knows where the log
        stands: who publishes as soon as the stream is open must get the event."""
        self._loop = asyncio.get_running_loop()
        self._send = send
        self._break_off = break_off
        self._backlog = backlog
        self._broken = False
        self._protocol: asyncio.Protocol | None = None
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._waiting: list[bytes] = []
        self._size = 0
        self._high = _HIGH_BYTES
        self._paused = False
        self._closing = False
        self._sending: asyncio.Task[None] | None = None

    # ---- what the server's side does

    async def stay(self, receive: Receive) -> None:
        """Keep the request until the stream is over, or its client left."""
        watching = self._loop.create_task(self._watch(receive))
        try:
            await self._over
            if self._broken:
                # Else the server would complain of a response that is not complete.
                await asyncio.wait({watching}, timeout=_BREAK_OFF_S)
        finally:
            watching.cancel()
            self.lose()

    async def _watch(self, receive: Receive) -> None:
        try:
            # What else comes is the rest of a body that the view did not read.
            while (await receive())["type"] != "http.disconnect":
                pass
        finally:
            self.lose()

    def lose(self, error: Exception | None = None) -> None:
        """The client is gone, or shall be: it gets nothing more."""
        if not self._over.done():
            self._over.set_result(None)
            self._waiting.clear()
            if self._sending is not None:
                self._sending.cancel()
            if self._protocol is not None:
                self._loop.call_soon(self._protocol.connection_lost, error)

    # ---- what the hub does: a Carrier

    def connect(self, protocol: asyncio.Protocol) -> None:
        """Be the protocol's transport."""
        self._protocol = protocol
        protocol.connection_made(self)
        if self._over.done():
            self._loop.call_soon(protocol.connection_lost, None)

    def fileno(self) -> int:
        """No descriptor is ours."""
        return -1

    def detach(self) -> None:
        """Nothing is ours to forget."""

    # ---- what the stream does: a transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send it, after what waits already."""
        if data and not self._closing and not self._over.done():
            self._waiting.append(bytes(data))
            self._size += len(data)
            self._start_sending()
            self._pause_or_resume()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Pause the stream where more than ``high`` bytes wait."""
        self._high = _HIGH_BYTES if high is None else high

    def write_eof(self) -> None:
        """The response has an end of its own."""

    def close(self) -> None:
        """End the response when everything was sent."""
        if not self._closing:
            self._closing = True
            self._start_sending()

    def is_closing(self) -> bool:
        """True where nothing more can be written."""
        return self._closing or self._over.done()

    def abort(self) -> None:
        """End the response at once."""
        if self.head is not None and not self._over.done():
            # Nothing was sent, and a response that never starts would be an error of ours.
            self._waiting.clear()
            self.close()
            return
        if self._break_off is not None and not self._over.done():
            self._broken = True
            self._break_off()
        self.lose()

    # ---- sending

    def _start_sending(self) -> None:
        if self._sending is None and not self._over.done():
            self._sending = self._loop.create_task(self._send_all())

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                data = b"".join(self._waiting)
                self._waiting.clear()
                await self._send_head()
                await self._send({"type": "http.response.body", "body": data, "more_body": True})
                while self._backlog and self._backlog() > _HIGH_BYTES:  # noqa: ASYNC110  its own
                    await asyncio.sleep(_LOOK_S)
                self._size -= len(data)
                self._pause_or_resume()
            if self._closing:
                await self._send_head()
                await self._send({"type": "http.response.body", "body": b"", "more_body": False})
                self.lose()
        except Exception as error:  # noqa: BLE001  each server has its own for a client that left
            self.lose(error)
        finally:
            self._sending = None

    async def _send_head(self) -> None:
        if self.head is not None:
            head, self.head = self.head, None
            await self._send(head)

    def _pause_or_resume(self) -> None:
        if self._protocol is None or self._over.done():
            return
        if not self._paused and self._size > self._high:
            self._paused = True
            self._protocol.pause_writing()
        elif self._paused and self._size <= self._high // 4:  # as asyncio's transports do
            self._paused = False
            self._protocol.resume_writing()


class _Home:
    """The hubs on one server's loop. It says goodbye to every stream when the server stops.

    In time, for servers wait for open responses before they say ``lifespan.shutdown``: uvicorn and
    granian for ever, gunicorn for half a minute, hypercorn for three seconds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.fds: set[int] = set()
        """Stays empty: descriptors are the server's."""
        self.hubs: weakref.WeakSet[Hub] = weakref.WeakSet()
        self._signs: list[Callable[[], bool]] = []
        self._look: asyncio.TimerHandle | None = None
        self._stopping: set[asyncio.Task[None]] = set()
        self._stopped = False
        _HOMES.add(self)

    def adopt(self, service: Service, adoption: Adoption, signs: list[Callable[[], bool]]) -> None:
        """Give a stream to its service's hub on this loop."""
        self._signs = self._signs or signs
        _chain_signals()
        service.adopt(self, adoption)
        if self._stopped:
            self.begin_stop()  # the hub may be a new one
        elif self._look is None and self._signs:
            self._look = self.loop.call_later(_LOOK_S, self._look_at_server)

    def begin_stop(self) -> None:
        """End all streams, soon. Safe to repeat."""
        self._stopped = True
        task = self.loop.create_task(self.stop())
        self._stopping.add(task)
        task.add_done_callback(self._stopping.discard)

    async def stop(self) -> None:
        """End all streams; those that come now are sent away."""
        self._stopped = True
        if self._look is not None:
            self._look.cancel()
            self._look = None
        await asyncio.gather(*(hub.stop(_STOP_S) for hub in tuple(self.hubs)))

    def _look_at_server(self) -> None:
        self._look = None
        if any(sign() for sign in self._signs):
            self.begin_stop()
        elif any(hub.stats().streams for hub in self.hubs):
            self._look = self.loop.call_later(_LOOK_S, self._look_at_server)


#: The homes of this process, for the signal handlers.
_HOMES: weakref.WeakSet[_Home] = weakref.WeakSet()


# ---- children


#: How many streams are on a connection, by its descriptor: HTTP/2 has many on one.
_FDS: Counter[int] = Counter()


@contextlib.contextmanager
def _not_for_children(transport: Any) -> Iterator[None]:
    """While a stream is open, a child that is forked shall not keep its connection."""
    fd = -1
    with contextlib.suppress(Exception):  # a transport may be closed, or be something else
        fd = transport.get_extra_info("socket").fileno()
    _FDS[fd] += 1
    try:
        yield
    finally:
        _FDS[fd] -= 1
        if _FDS[fd] <= 0:  # below it in a child
            del _FDS[fd]


def _leave_streams() -> None:
    """In a forked child: the parent's streams are not ours.

    Else their clients would not see the end of them while this child lives. Their descriptors are
    put to another use and not closed: objects of the server have them, which would close what got
    the same number later.
    """
    _HOMES.clear()
    streams = [fd for fd in _FDS if fd >= 0]
    _FDS.clear()
    if streams:
        with contextlib.suppress(OSError):
            nothing = os.open(os.devnull, os.O_RDWR)
            for fd in streams:
                os.dup2(nothing, fd, inheritable=False)
            os.close(nothing)


register_at_fork(after_in_child=_leave_streams)


# ---- signs that a server stops


class _Chained:
    """A server's own signal handler, with our goodbye before it."""

    def __init__(self, before: Callable[[int, Any], object]) -> None:
        self.before = before

    def __call__(self, number: int, frame: Any) -> None:
        for home in tuple(_HOMES):
            with contextlib.suppress(RuntimeError):  # its loop is closed
                home.loop.call_soon_threadsafe(home.begin_stop)
        self.before(number, frame)


def _chain_signals() -> None:
    """Hear of the signals that stop a server when it does.

    Done at the first stream: by then every server has set its handlers. Event loops set one, too,
    and learn of signals by a descriptor as before. Off the main thread there are no signals.
    """
    for number in _STOP_SIGNALS:
        before = signal.getsignal(number)
        if callable(before) and not isinstance(before, _Chained):
            with contextlib.suppress(ValueError):
                signal.signal(number, _Chained(before))


def _signs(receive: Receive, send: Send) -> list[Callable[[], bool]]:
    """Ways to ask this server whether it stops, also where no signal says so (``max_requests``)."""
    signs: list[Callable[[], bool]] = []
    hypercorn = _dig(send, "__self__", "context", "terminated", "is_set")
    if hypercorn is not None:
        signs.append(hypercorn)
    gunicorn = _dig(receive, "__self__", "protocol", "worker")
    if hasattr(gunicorn, "alive"):
        signs.append(lambda: not gunicorn.alive)
    handler = signal.getsignal(signal.SIGTERM)
    uvicorn = _dig(handler.before if isinstance(handler, _Chained) else handler, "__self__")
    if hasattr(uvicorn, "servers"):
        signs.append(lambda: not all(each.is_serving() for each in uvicorn.servers))
    return signs


def _transport(receive: Receive, send: Send) -> Any:
    """What a server writes to for this client, or ``None`` where it does not show it."""
    uvicorn = _dig(send, "__self__", "transport")
    gunicorn = _dig(receive, "__self__", "protocol", "transport")
    # HTTPStream of H11Protocol or H2Protocol of TCPServer.
    up = ("__self__", "send", "__self__", "send", "__self__")
    return uvicorn or gunicorn or _dig(send, *up, "writer", "transport")


def _break_off(scope: Scope, transport: Any, send: Send) -> Callable[[], object] | None:
    """A way to cut the stream of a client that takes nothing, and nothing else on its connection.

    Without one the server is left with a response that its application did not complete.
    """
    if not scope["http_version"].startswith("1"):
        return _reset(_dig(send, "__self__"))
    found: Callable[[], object] | None = _dig(transport, "abort")
    return found


def _backlog(scope: Scope, send: Send) -> Callable[[], int] | None:
    """What waits in hypercorn for one stream of HTTP/2.

    Its ``send`` shall wait for a slow client there, but does not (0.18: a window of size zero wakes
    it up), and would take everything that is ever published.
    """
    stream = _dig(send, "__self__")
    buffers = _dig(stream, "send", "__self__", "stream_buffers")
    if buffers is None or scope["http_version"].startswith("1"):
        return None
    return lambda: len(_dig(buffers.get(stream.stream_id), "buffer") or b"")


def _reset(stream: Any) -> Callable[[], object] | None:
    """Reset a stream of HTTP/2 in hypercorn, which would otherwise never tell the client."""
    protocol = _dig(stream, "send", "__self__")
    reset, flush = _dig(protocol, "connection", "reset_stream"), _dig(protocol, "_flush")
    if reset is None or flush is None:
        return None

    async def reset_now() -> None:
        with contextlib.suppress(Exception):  # the client may have closed it meanwhile
            reset(stream.stream_id, error_code=_HTTP2_CANCEL)
            await flush()

    loop = asyncio.get_running_loop()
    return lambda: loop.create_task(reset_now())


def _dig(thing: Any, *names: str) -> Any:
    """An attribute of an attribute …, or ``None`` where there is none."""
    for name in names:
        thing = getattr(thing, name, None)
    return thing
