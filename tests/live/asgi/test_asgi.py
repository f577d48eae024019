"""The room itself, called as a server calls it, on a loop of the test's own."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask, Response

from flask_eventstream import EventStream
from flask_eventstream.asgi import EventStreamASGI
from flask_eventstream.servers.asgi import home as asgi_home
from flask_eventstream.servers.asgi import known as asgi_servers
from harness.waiting import Deadline

WITHIN_S = 10.0
POLL_S = 0.002

Message = dict[str, Any]
Asgi = Callable[..., Awaitable[None]]


@pytest.fixture(autouse=True)
def signals() -> Iterator[None]:
    """The handlers of this process, as they were."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def events() -> EventStream:
    """An extension of the test's own."""
    return EventStream()


@pytest.fixture
def app(events: EventStream) -> Flask:
    """An application with a log in memory, its stream at /stream."""
    app = Flask("app_under_test")
    app.config.update(SSE_BROKER_URL="memory://", SSE_MAX_BUFFER_BYTES=100_000)
    app.register_blueprint(events)
    return app


class Request:
    """One request, and what the application sends. Belongs to the loop."""

    def __init__(self, path: str, kind: str = "http") -> None:
        self.sent: list[Message] = []
        self.gone = asyncio.Event()
        self.may_send = asyncio.Event()
        self.may_send.set()
        self.error: OSError | None = None
        self._asked = False
        self.scope = {
            "type": kind,
            "method": "GET",
            "path": path,
            "query_string": b"",
            "http_version": "1.1",
            "headers": [],
        }

    async def receive(self) -> Message:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await self.may_send.wait()
        if self.error is not None:
            raise self.error
        self.sent.append(message)

    def start(self, app: Asgi) -> asyncio.Future[None]:
        self.served = asyncio.ensure_future(app(self.scope, self.receive, self.send))
        return self.served

    async def leave(self) -> None:
        """Leave as a client does, and wait until the application is done."""
        self.gone.set()
        await self.served

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def complete(self) -> bool:
        last = self.sent[-1] if self.sent else {"type": None}
        return last["type"] == "http.response.body" and not last.get("more_body")


async def until(condition: Callable[[], object], what: str) -> None:
    deadline = Deadline(WITHIN_S)
    while not condition():
        if deadline.passed:
            raise AssertionError(f"waited {WITHIN_S:g} s for {what}")
        await asyncio.sleep(POLL_S)


async def opened(app: Asgi, path: str = "/stream") -> Request:
    """A request whose stream is open."""
    request = Request(path)
    request.start(app)
    await until(lambda: request.body.endswith(b":\n"), "an open stream")
    return request


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 2 * WITHIN_S))


def test_a_stream_comes_and_goes(app: Flask, events: EventStream) -> None:
    """A stream starts with its head, gets events, and is forgotten when its client leaves."""

    async def test() -> None:
        request = await opened(EventStreamASGI(app))
        await asyncio.to_thread(events.publish, "hello")
        await until(lambda: b"data: hello\n" in request.body, "the event")
        await request.leave()

        assert request.sent[0]["status"] == 200
        assert not request.complete
        await until(lambda: events.stats().ended == {"left": 1}, "its end")

    run(test())


def test_the_head_waits_for_the_log(app: Flask, events: EventStream) -> None:
    """No head leaves before the log's position is known: what is published then arrives."""

    async def test() -> None:
        request = Request("/stream")
        state = events._state(app)
        listen = state.broker.listen
        asked, answer = asyncio.Event(), asyncio.Event()

        def listen_late(loop: Any, receiver: Any) -> Any:
            listener = listen(loop, receiver)
            replay = listener.replay

            async def replay_late(*args: Any) -> Any:
                asked.set()
                await answer.wait()
                return await replay(*args)

            listener.replay = replay_late  # type: ignore[method-assign]
            listener.follow = lambda _standing: False  # type: ignore[method-assign]
            return listener

        state.broker.listen = listen_late  # type: ignore[method-assign]
        served = request.start(EventStreamASGI(app))
        await asked.wait()
        await until(lambda: events.stats().streams == 1, "the stream")

        assert request.sent == []

        answer.set()
        await until(lambda: request.body.endswith(b":\n"), "an open stream")
        request.gone.set()
        await served

    run(test())


def test_lifespan(app: Flask, events: EventStream) -> None:
    """The server's start is answered at once, and its end when all streams have ended."""

    async def test() -> None:
        application = EventStreamASGI(app)
        messages: asyncio.Queue[Message] = asyncio.Queue()
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        living = asyncio.ensure_future(application({"type": "lifespan"}, messages.get, send))
        messages.put_nowait({"type": "lifespan.startup"})
        await until(lambda: sent == [{"type": "lifespan.startup.complete"}], "an answer")
        request = await opened(application)
        messages.put_nowait({"type": "lifespan.shutdown"})
        await living
        await request.served

        assert sent[-1] == {"type": "lifespan.shutdown.complete"}
        assert request.body.count(b"retry: ") == 2
        assert request.complete
        assert events.stats().ended == {"shutdown": 1}

    run(test())


def test_a_late_stream_is_sent_away(app: Flask) -> None:
    """A stream that comes while the server stops gets a `retry:` and its end."""

    async def test() -> None:
        application = EventStreamASGI(app)
        first = await opened(application)
        await application._home_here().stop()
        await first.served
        late = Request("/stream")
        await late.start(application)

        assert late.sent[0]["status"] == 200
        assert late.body.startswith(b"retry: ")
        assert late.complete

    run(test())


def test_a_slow_client_is_cut(app: Flask, events: EventStream) -> None:
    """Where the server takes nothing and more than the bound waits, the stream is cut."""

    async def test() -> None:
        request = await opened(EventStreamASGI(app))
        request.may_send.clear()
        # Two are over the bound, and the third finds that much still waiting.
        for number in range(1, 4):
            await asyncio.to_thread(events.publish, f"{number}" * 50_000)
            await until(lambda n=number: events.stats().deliveries == n, "a delivery")  # type: ignore[misc]
        await request.served

        await until(lambda: events.stats().ended == {"slow": 1}, "its end")
        assert not request.complete

    run(test())


def test_a_client_that_catches_up_stays(app: Flask, events: EventStream) -> None:
    """Where the server takes no more than the bound for a while, nothing is lost."""

    async def test() -> None:
        request = Request("/numbers")
        # Six times what may wait: the iterable is paused, and goes on.
        numbers = [f"{number}" * 100_000 for number in range(6)]
        app.add_url_rule("/numbers", "numbers", lambda: events.response(iter(numbers)))
        request.may_send.clear()
        served = request.start(EventStreamASGI(app))
        await until(lambda: events.stats().streams == 1, "the stream")
        request.may_send.set()
        await served

        lines = request.body.decode().split("\n")
        assert [line[6:] for line in lines if line.startswith("data: ")] == numbers
        assert request.complete

    run(test())


def test_a_server_that_cannot_send(app: Flask, events: EventStream) -> None:
    """A server's own error at sending ends the stream as lost, and nothing is raised."""

    async def test() -> None:
        request = await opened(EventStreamASGI(app))
        request.error = BrokenPipeError()
        await asyncio.to_thread(events.publish, "hello")
        await request.served

        await until(lambda: events.stats().ended == {"lost": 1}, "its end")

    run(test())


def test_other_answers_of_middleware(app: Flask, events: EventStream) -> None:
    """Where middleware makes another answer of a stream, that answer arrives, and no stream."""

    def middleware(environ: dict[str, Any], start_response: Any) -> Any:
        return app(environ, lambda _status, headers: start_response("403 No", headers))

    async def test() -> None:
        request = Request("/stream")
        await request.start(EventStreamASGI(middleware))

        assert request.sent[0]["status"] == 403
        assert request.complete
        assert request.body == b""
        await until(lambda: events.stats().ended == {"left": 1}, "its end")

    run(test())


def test_what_middleware_adds(app: Flask) -> None:
    """What middleware puts before the stream arrives before it."""

    def middleware(environ: dict[str, Any], start_response: Any) -> Any:
        yield from app(environ, start_response)
        yield b": from middleware\n"

    async def test() -> None:
        request = await opened(EventStreamASGI(middleware))
        await request.leave()

        assert request.body == b": from middleware\nretry: 3000\n:\n"

    run(test())


def test_middleware_that_compresses(app: Flask) -> None:
    """What middleware made of the empty body that it was given is no part of the stream."""

    def middleware(environ: dict[str, Any], start_response: Any) -> Any:
        def start(status: str, headers: list[tuple[str, str]]) -> Any:
            more = [("Content-Encoding", "gzip"), ("Content-Length", "2")]
            return start_response(status, [*headers, *more])

        app(environ, start)
        return [b"\x1f\x8b"]

    async def test() -> None:
        request = await opened(EventStreamASGI(middleware))
        await request.leave()

        assert request.body == b"retry: 3000\n:\n"
        names = {name.lower() for name, _ in request.sent[0]["headers"]}
        assert names.isdisjoint({b"content-encoding", b"content-length"})

    run(test())


def test_callbacks_run_when_the_stream_ends(app: Flask) -> None:
    """`call_on_close` of the response waits for the stream's end."""
    closed: list[str] = []

    @app.after_request
    def watch(response: Response) -> Response:
        response.call_on_close(lambda: closed.append("closed"))
        return response

    async def test() -> None:
        request = await opened(EventStreamASGI(app))
        assert closed == []
        await request.leave()

        await until(lambda: closed == ["closed"], "the callback")

    run(test())


def test_a_failing_application(app: Flask) -> None:
    """An error that leaves the application reaches the server, and no stream stays."""

    def broken(environ: dict[str, Any], start_response: Any) -> Any:
        app(environ, start_response)
        raise RuntimeError("this middleware is broken")

    async def test() -> None:
        application = EventStreamASGI(broken)

        with pytest.raises(RuntimeError, match="broken"):
            await Request("/stream").start(application)
        await until(
            lambda: not any(hub.stats().streams for hub in application._home_here().hubs), "its end"
        )

    run(test())


def test_a_stream_that_never_opened_is_complete(app: Flask, events: EventStream) -> None:
    """A stream that is cut before its first byte is an empty answer, not an error of ours."""

    async def test() -> None:
        request = Request("/stream")

        def listen(*_: Any) -> Any:
            raise RuntimeError("this broker is broken")

        events._state(app).broker.listen = listen  # type: ignore[method-assign]
        await request.start(EventStreamASGI(app))

        assert [message.get("status") for message in request.sent] == [200, None]
        assert request.body == b""
        assert request.complete
        await until(lambda: events.stats().ended == {"failed": 1}, "its end")

    run(test())


def test_a_websocket_is_closed(app: Flask) -> None:
    """A WebSocket, which Flask does not know, is closed."""

    async def test() -> None:
        request = Request("/stream", kind="websocket")
        await request.start(EventStreamASGI(app))

        assert [message["type"] for message in request.sent] == ["websocket.close"]

    run(test())


def test_only_one_path(app: Flask) -> None:
    """With `only`, whatever path is asked for is answered by that one."""

    async def test() -> None:
        request = await opened(EventStreamASGI(app, only="/stream"), "/somewhere/else")
        await request.leave()

        assert request.sent[0]["status"] == 200

    run(test())


def test_a_signal_reaches_the_server_too(app: Flask, events: EventStream) -> None:
    """SIGTERM says goodbye to streams, and then calls the server's own handler."""
    called: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: called.append(number))

    async def test() -> None:
        request = await opened(EventStreamASGI(app))
        signal.raise_signal(signal.SIGTERM)
        await request.served

        assert called == [signal.SIGTERM]
        assert request.complete
        assert events.stats().ended == {"shutdown": 1}

    run(test())


def test_a_signal_that_nobody_handles(app: Flask) -> None:
    """Where the server has no handler, none is put there: the signal must still end the process."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    async def test() -> None:
        request = await opened(EventStreamASGI(app))
        await request.leave()

        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    run(test())


def test_an_unknown_server_shows_nothing() -> None:
    """Of a server that is not known, nothing is asked, and no connection is broken off."""
    request = SimpleNamespace(receive=None, send=None)

    assert asgi_servers.find_signs(request.receive, request.send, None) == []
    assert (
        asgi_servers.find_break_off({"http_version": "1.1"}, request.receive, request.send) is None
    )  # type: ignore[arg-type]


def test_what_waits_in_the_server_is_seen() -> None:
    """What waits in hypercorn for a stream of HTTP/2 is found, and nothing on HTTP/1.1."""

    class Protocol:
        stream_buffers = {7: SimpleNamespace(buffer=b"12345")}  # noqa: RUF012

        async def stream_send(self, event: object) -> None:
            """What hypercorn's streams write to."""

    class Stream:
        stream_id = 7
        send = Protocol().stream_send

        async def app_send(self, message: Message) -> None:
            """What hypercorn hands to an application."""

    send: Any = Stream().app_send
    backlog = asgi_servers.find_backlog({"http_version": "2"}, send)

    assert backlog is not None
    assert backlog() == 5
    assert asgi_servers.find_backlog({"http_version": "1.1"}, send) is None


def test_a_shared_connection_is_never_broken_off() -> None:
    """On HTTP/2, where a connection carries other requests, it is not cut for one slow stream."""

    class Cycle:
        transport = SimpleNamespace(abort=lambda: None)

        async def send(self, message: Message) -> None:
            """What uvicorn hands to an application."""

    send: Any = Cycle().send

    transport = asgi_servers.find_transport(send, send)

    assert asgi_servers.find_break_off({"http_version": "1.1"}, transport, send) is not None
    assert asgi_servers.find_break_off({"http_version": "2"}, transport, send) is None


class Connection:
    """A transport, as far as a child is concerned."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def get_extra_info(self, name: str) -> socket.socket:
        return {"socket": self.sock}[name]


def test_a_child_leaves_the_connections_of_streams() -> None:
    """In a forked child the descriptor of each open stream names something else."""
    ours, theirs = socket.socketpair()
    with ours, theirs, asgi_home.not_for_children(Connection(ours)):
        with asgi_home.not_for_children(Connection(ours)):
            pass  # another stream on the same connection
        asgi_home._leave_streams()
        theirs.settimeout(WITHIN_S)

        assert theirs.recv(1) == b""
        assert not stat.S_ISSOCK(os.fstat(ours.fileno()).st_mode)


def test_a_child_leaves_other_connections_alone() -> None:
    """In a forked child a connection without a stream stays, and so where none can be told."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with asgi_home.not_for_children(Connection(ours)):
            pass
        with asgi_home.not_for_children(None):
            asgi_home._leave_streams()
        ours.send(b"x")

        assert theirs.recv(1) == b"x"
