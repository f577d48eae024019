"""The way out under WSGI: handed off by a server made by hand, held under Flask's test client."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import (
    Flask,
    Response,
    g,
    has_app_context,
    has_request_context,
    request,
    session,
    stream_with_context,
)

from flask_eventstream import Event, EventStream
from flask_eventstream.hub.admission import IN_THIS_PROCESS, Refusal, Refused
from flask_eventstream.hub.adoption import Adoption
from flask_eventstream.servers import pump
from flask_eventstream.servers.wsgi import response as wsgi
from flask_eventstream.worker import WORKER
from harness.hand_server import HandServer, Page
from harness.process import descriptors
from harness.waiting import Deadline, wait_until

PREAMBLE = b"retry: 3000\n:\n"
SENT_AWAY = re.compile(rb"retry: ([0-9]+)\n:\n")
SENT_AWAY_MS = range(100, 3101)
ROUNDS = 50


@pytest.fixture(autouse=True)
def _no_thread_is_held() -> None:
    """Threads are the process's: what an earlier test left open holds none of this one's."""
    IN_THIS_PROCESS.held_threads = 0
    IN_THIS_PROCESS.freed.clear()


@pytest.fixture
def events() -> EventStream:
    """An extension of the test's own."""
    return EventStream()


@pytest.fixture
def app(events: EventStream) -> Flask:
    """An application with a log in memory and quick heartbeats, its stream at /stream."""
    app = Flask("app_under_test")
    app.secret_key = "for sessions"
    app.config.update(SSE_BROKER_URL="memory://", SSE_HEARTBEAT_S=0.05, SSE_PUBLIC=True)
    app.register_blueprint(events)
    return app


@pytest.fixture
def server(app: Flask) -> HandServer:
    """A server that shows its sockets."""
    return HandServer(app)


def route(app: Flask, events: EventStream, source: Callable[[], Any], path: str = "/own") -> None:
    """Let a path of the application answer with an iterable."""
    app.add_url_rule(path, path, lambda: events.response(source()))


def was_sent_away(body: bytes) -> bool:
    """Whether a body is a retry, at a time that is the client's own, and nothing else."""
    match = SENT_AWAY.fullmatch(body)
    return match is not None and int(match[1]) in SENT_AWAY_MS


# ---- handed off


def test_the_server_is_done_while_the_stream_goes_on(
    server: HandServer, events: EventStream
) -> None:
    """The server's thread is free and its connection closed, and events reach the client."""
    with server.request() as page:
        page.opened()
        events.publish("a")
        events.publish({"b": 1}, type="t", channel="sse")
        page.got("a", '{"b": 1}')

        assert page.events[1]["type"] == "t"


def test_it_works_on_tcp(app: Flask, events: EventStream) -> None:
    """A TCP connection is handed off, sends small frames at once, and notices a vanished host."""
    with HandServer(app, tcp=True).request() as page:
        page.opened()
        events.publish("a")
        page.got("a")
        (fd,) = wsgi.hub_thread().fds
        with socket.socket(fileno=os.dup(fd)) as connection:
            no_delay = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            patience_ms = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)

        assert no_delay
        assert patience_ms == 30_000


def test_the_head_says_event_stream(server: HandServer) -> None:
    """The head has status, type and caching of an event stream, and is framed in chunks."""
    with server.request() as page:
        headers = page.headers

        assert page.response.status == 200
        assert headers["content-type"] == "text/event-stream; charset=utf-8"
        assert headers["cache-control"] == "no-store, no-transform"
        assert headers["x-accel-buffering"] == "no"
        assert headers["transfer-encoding"] == "chunked"
        assert headers["connection"] == "close"
        assert "content-length" not in headers


def test_an_old_client_gets_no_chunks(app: Flask, events: EventStream) -> None:
    """A client that asks in HTTP/1.0 gets a stream that ends with the connection."""
    with HandServer(app, SERVER_PROTOCOL="HTTP/1.0").request() as page:
        page.opened()
        events.publish("a")
        page.got("a")

        assert page.headers["connection"] == "close"
        assert not {"content-length", "transfer-encoding"} & page.headers.keys()


def test_what_the_application_adds_arrives(app: Flask, events: EventStream) -> None:
    """Session cookies, `after_request` headers and those of WSGI middleware reach the client."""

    @events.before_request
    def remember() -> None:
        session["user"] = "ada"

    @app.after_request
    def add(response: Response) -> Response:
        response.headers["X-After"] = "request"
        response.set_cookie("theme", "dark")
        return response

    def middleware(environ: dict[str, Any], start_response: Any) -> Any:
        def started(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, [*headers, ("X-Middleware", "was here")], exc_info)

        yield from app(environ, started)

    def served(environ: dict[str, Any], start_response: Any) -> Any:
        return list(middleware(environ, start_response))

    with HandServer(served).request() as page:
        headers = page.headers

        assert "session=" in headers["set-cookie"]
        assert "theme=dark" in headers["set-cookie"]
        assert headers["x-after"] == "request"
        assert headers["x-middleware"] == "was here"

        page.opened()


def test_head_opens_nothing(server: HandServer, events: EventStream) -> None:
    """HEAD gets the headers from the server itself, and no stream is opened."""
    with server.request(method="HEAD") as page:
        page.end()

        assert page.response.status == 200
        assert page.headers["content-type"].startswith("text/event-stream")
        assert page.headers["connection"] == "keep-alive"
        assert page.body == b""
        assert events.stats().opened == 0


def test_leaving_frees_the_descriptor(server: HandServer, events: EventStream) -> None:
    """When the client leaves, the hub gives up all that it held for it."""
    with server.request() as page:
        page.opened()

        assert len(wsgi.hub_thread().fds) == 1

    wait_until(lambda: events.stats().streams == 0, what="the stream to be gone")

    assert events.stats().ended == {"left": 1}
    assert wsgi.hub_thread().fds == set()


def test_many_rounds_leave_nothing(server: HandServer, events: EventStream) -> None:
    """Rounds of coming and leaving leave no descriptor over.

    A few come and go in this process for reasons of their own: what one earlier test left to the
    garbage collector, a connection of the broker. A leak is one for each round at least.
    """
    before = descriptors(os.getpid())
    for _ in range(ROUNDS):
        server.request().opened().close()
    wait_until(lambda: events.stats().streams == 0, what="all streams to be gone")

    wait_until(
        lambda: descriptors(os.getpid()) < before + ROUNDS // 2, what="the descriptors to be closed"
    )


def test_the_stream_is_told_to_the_server(app: Flask) -> None:
    """A server that would read another request from the connection is told to close it."""
    told: list[str] = []

    class Answer:
        def start_response(self, status: str, headers: Any, exc_info: Any = None) -> None:
            told.append(status)

        def force_close(self) -> None:
            told.append("close")

    client, connection = socket.socketpair()
    server = HandServer(app, **{"gunicorn.socket": connection})
    server.start_response = Answer().start_response
    with client, connection, pytest.raises(IndexError):  # our server has no head to send
        server._serve(connection, "/stream", "GET", {})

    assert told == ["200 OK", "close"]


def test_callbacks_run_once_when_the_stream_ends(app: Flask, server: HandServer) -> None:
    """`call_on_close` callbacks run once, when the stream ends, each whatever another does."""
    calls: list[str] = []

    @app.after_request
    def watch(response: Response) -> Response:
        response.call_on_close(lambda: calls.append("first"))
        response.call_on_close(lambda: 1 / 0)
        response.call_on_close(lambda: calls.append("last"))
        return response

    with server.request() as page:
        page.opened()

        assert calls == []

    wait_until(lambda: "last" in calls, what="the callbacks")

    assert calls == ["first", "last"]


def test_a_callback_that_raises_is_logged(
    app: Flask, server: HandServer, caplog: pytest.LogCaptureFixture
) -> None:
    """What a callback at the end of a stream raises is in the log."""

    @app.after_request
    def watch(response: Response) -> Response:
        response.call_on_close(lambda: 1 / 0)
        return response

    server.request().opened().close()
    wait_until(lambda: caplog.records, what="the log")

    assert caplog.messages == ["A callback at the end of an event stream raised"]


def test_without_descriptors_the_client_is_sent_away(
    server: HandServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no descriptor is left the client gets 200, a retry time and the end; logged once."""

    def no_more(_: int) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("flask_eventstream.servers.wsgi.swap.os.dup", no_more)
    for _ in range(2):
        with server.request() as page:
            page.end()

            assert page.response.status == 200
            assert page.headers["content-type"].startswith("text/event-stream")
            assert was_sent_away(page.body)

    assert caplog.messages == [
        "A stream was sent away: no descriptor is left (Too many open files): raise ulimit -n"
    ]


def test_other_failures_of_the_system_are_the_servers(
    server: HandServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of the system that is not about descriptors reaches the server as it is."""

    def broken(_: int) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("flask_eventstream.servers.wsgi.swap.os.dup", broken)

    with pytest.raises(OSError, match="Input/output error"):
        server.request()


def test_a_server_that_fails_to_start_loses_no_client(app: Flask) -> None:
    """Where `start_response` raises, the client's connection is closed and nothing is kept."""
    server = HandServer(app)

    def start_response(*_: Any) -> None:
        raise ZeroDivisionError

    server.start_response = start_response
    client, connection = socket.socketpair()
    client.settimeout(10)
    with client, connection:
        with pytest.raises(ZeroDivisionError):
            server._serve(connection, "/stream", "GET", {})
        connection.close()

        assert client.recv(100) == b""

    wait_until(lambda: not wsgi.hub_thread().fds, what="the descriptor to be given up")


def test_a_process_that_goes_down_meanwhile(
    server: HandServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the hub stops while a stream is handed off, the server itself sends the client away.

    It starts one response, on its own connection, and nothing is kept.
    """

    def stopped(*_: object) -> None:
        raise Refused(Refusal.STOPPING, "the process is going down")

    monkeypatch.setattr(wsgi.HubThread, "call", stopped)
    with server.request() as page:
        page.end()

        assert page.response.status == 200
        assert page.headers["connection"] == "keep-alive"
        assert was_sent_away(page.body)
    assert wsgi.hub_thread().fds == set()


@pytest.mark.parametrize("target", ["hub_thread", "Pump"])
def test_an_iterable_that_can_not_be_run_is_closed(
    app: Flask, events: EventStream, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    """An iterable is closed where no thread can be had for it, and where no descriptor is left."""
    source = Watched("x")()
    next(source)
    failures: dict[str, Exception] = {
        "hub_thread": Refused(Refusal.NO_THREAD, "can't start new thread"),
        "Pump": OSError(errno.EMFILE, "Too many open files"),
    }

    def no_more(*_: object) -> None:
        raise failures[target]

    where = wsgi if target == "hub_thread" else pump.socket
    monkeypatch.setattr(where, "hub_thread" if where is wsgi else "socketpair", no_more)
    route(app, events, lambda: source)
    with app.test_client().get("/own") as response:
        assert was_sent_away(response.data)

    assert source.gi_frame is None


def test_clients_that_are_sent_away_come_back_one_by_one(app: Flask) -> None:
    """Each client that is sent away is told a time of its own."""
    told = set()
    with Held(app):
        for _ in range(10):
            with Held(app) as held:
                told.add(held.rest().parser.retry)

    assert len(told) > 1


# ---- an application's own iterable, handed off


def test_an_iterable_is_a_stream(app: Flask, events: EventStream, server: HandServer) -> None:
    """Text, objects and events of an iterable arrive in order, and the stream ends with it."""

    def source() -> Iterator[Any]:
        yield "text\nof two lines"
        yield {"n": 1}
        yield Event("whole", "t", "7")
        yield ""

    route(app, events, source)
    with server.request("/own") as page:
        page.end()

        assert page.response.complete
        assert page.body.startswith(PREAMBLE)
        assert page.data == ["text\nof two lines", '{"n": 1}', "whole", ""]
        assert page.events[2] == {"type": "t", "data": "whole", "id": "7", "retry": 3000}

    wait_until(lambda: events.stats().ended == {"finished": 1}, what="the reason")


def test_frames_that_are_framed_again(
    app: Flask, events: EventStream, server: HandServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Text that is framed already is sent as data all the same, and the log says so once."""
    route(app, events, lambda: ["data: a\n\n", "data: b\n\n"])
    with server.request("/own") as page:
        page.end()

        assert page.data == ["data: a\n\n", "data: b\n\n"]

    (message,) = caplog.messages

    assert "framed already" in message


def test_a_list_is_an_iterable(app: Flask, events: EventStream, server: HandServer) -> None:
    """Anything that can be iterated over will do, also what has no `close`."""
    route(app, events, lambda: [1, 2, 3])
    with server.request("/own") as page:
        page.end()

        assert page.data == ["1", "2", "3"]


def test_an_iterable_that_raises_ends_its_stream(
    app: Flask, events: EventStream, server: HandServer, caplog: pytest.LogCaptureFixture
) -> None:
    """What came before the error arrives, the error is logged, and the stream ends as failed."""

    def source() -> Iterator[Any]:
        yield "before"
        raise ZeroDivisionError

    route(app, events, source)
    with server.request("/own") as page:
        page.end()

        assert page.data == ["before"]

    assert caplog.messages == ["The iterable behind an event stream raised; the stream ends"]
    assert caplog.records[0].exc_info
    wait_until(lambda: events.stats().ended == {"failed": 1}, what="the reason")


class Watched:
    """A generator that tells what becomes of it."""

    def __init__(self, item: Any, count: int | None = None) -> None:
        self.yielded = 0
        self.closed = threading.Event()
        self._item = item
        self._count = count

    def __call__(self) -> Iterator[Any]:
        try:
            while self._count is None or self.yielded < self._count:
                self.yielded += 1
                yield self._item
        finally:
            self.closed.set()


def test_what_can_not_be_sent_closes_the_iterable(
    app: Flask, events: EventStream, server: HandServer, caplog: pytest.LogCaptureFixture
) -> None:
    """An item that no event stream can carry ends the stream, and the generator is closed."""
    source = Watched(b"bytes")
    route(app, events, source)
    with server.request("/own") as page:
        page.end()

    assert source.closed.wait(10)
    assert "is bytes" in str(caplog.records[0].exc_info)


def test_a_client_that_leaves_closes_the_iterable(
    app: Flask, events: EventStream, server: HandServer
) -> None:
    """When the client leaves, the generator is closed at the next thing that it yields."""
    source = Watched("x")
    route(app, events, source)
    with server.request("/own") as page:
        page.until(lambda: len(page.data) > 10, "some events")

    assert source.closed.wait(10)


def test_a_silent_iterable_has_heartbeats(
    app: Flask, events: EventStream, server: HandServer
) -> None:
    """While the iterable is silent the client gets heartbeats."""
    go_on = threading.Event()

    def source() -> Iterator[Any]:
        go_on.wait(20)
        yield "at last"

    route(app, events, source)
    with server.request("/own") as page:
        page.until(lambda: page.parser.comments > 3, "heartbeats")
        go_on.set()
        page.end()

        assert page.data == ["at last"]


def test_a_fast_iterable_waits_for_a_slow_client(
    app: Flask, events: EventStream, server: HandServer
) -> None:
    """An iterable without end is never further ahead of its reader than the buffers are large."""
    app.config["SSE_MAX_BUFFER_BYTES"] = 50_000
    source = Watched("x" * 10_000)
    route(app, events, source)
    with server.request("/own") as page:
        while len(page.data) < 1000:
            page.read(1)

            assert (source.yielded - len(page.data)) * 10_000 < 3_000_000

    assert source.closed.wait(10)


def test_a_default_timeout_of_sockets_ends_no_stream(
    app: Flask, events: EventStream, server: HandServer
) -> None:
    """Where an application gave all sockets a timeout, a stream may be slower than that."""
    source = Watched("x" * 100_000, count=40)
    route(app, events, source)
    socket.setdefaulttimeout(0.02)
    try:
        page = server.request("/own")
    finally:
        socket.setdefaulttimeout(None)
    with page:
        page.opened()
        unread = Deadline(0.2)
        wait_until(lambda: unread.passed, what="more than the timeout to pass")

        assert source.yielded < 40

        page.end()

        assert len(page.data) == 40


def test_an_iterable_begins_after_its_request(
    app: Flask, events: EventStream, server: HandServer
) -> None:
    """The iterable begins when its request is over, so that it never shares the context."""
    order: list[str] = []
    began = threading.Event()

    def source() -> Iterator[Any]:
        order.append("iterable")
        began.set()
        yield "x"

    @app.teardown_request
    def torn_down(_: object) -> None:
        began.wait(0.2)
        order.append("teardown")

    route(app, events, source)
    with server.request("/own") as page:
        page.end()

    assert order == ["teardown", "iterable"]


def test_the_request_can_be_lent_to_an_iterable(
    app: Flask, events: EventStream, server: HandServer
) -> None:
    """Under `stream_with_context` an iterable sees its request."""

    @app.get("/own")
    def own() -> Response:
        def source() -> Iterator[Any]:
            yield request.args["name"]

        return events.response(stream_with_context(source()))

    with server.request("/own?name=ada") as page:
        page.end()

        assert page.data == ["ada"]


def test_a_lent_request_leaves_the_thread_that_it_came_in(
    app: Flask, events: EventStream, server: HandServer
) -> None:
    """Under `stream_with_context` teardown runs when the request ends, and when the iterable does.

    Nothing of the request stays on the server's thread.
    """
    order: list[str] = []

    @app.teardown_appcontext
    def teardown(_error: object) -> None:
        order.append("teardown")

    @app.get("/own")
    def own() -> Response:
        def source() -> Iterator[Any]:
            order.append(f"iterable of {g.name}")
            yield "x"

        g.name = "ada"
        return events.response(stream_with_context(source()))

    with server.request("/own") as page:
        assert not has_app_context()
        assert not has_request_context()
        page.end()

        wait_until(lambda: len(order) >= 3, what="the second teardown")

    assert order == ["teardown", "iterable of ada", "teardown"]


def test_the_applications_json_is_used(app: Flask, events: EventStream, server: HandServer) -> None:
    """Objects of an iterable become JSON by the application's provider."""
    app.json.ensure_ascii = False  # type: ignore[attr-defined]
    route(app, events, lambda: [{"name": "Zoë"}])
    with server.request("/own") as page:
        page.end()

        assert page.data == ['{"name": "Zoë"}']


def pump_threads() -> int:
    return sum(thread.name == "flask-eventstream" for thread in threading.enumerate())


def test_a_refused_iterable_never_begins(
    app: Flask, events: EventStream, server: HandServer
) -> None:
    """Where no stream is free the iterable is not run, and its thread ends."""
    app.config["SSE_MAX_STREAMS"] = 1
    source = Watched("x")
    route(app, events, source)
    before = pump_threads()
    with server.request() as first:
        first.opened()
        with server.request("/own") as page:
            page.end()

            assert page.data == []

        wait_until(lambda: pump_threads() <= before, what="the thread to end")

    assert source.yielded == 0


# ---- held: a worker's thread passes the stream on


class Held:
    """A response that Flask's test client holds, read on the test's own thread.

    Heartbeats bound each wait, as they do for a real server.
    """

    def __init__(self, app: Flask, path: str = "/stream", **more: Any) -> None:
        self.response = app.test_client().get(path, **more)
        self.page = Page(socket.socket())
        self._chunks = iter(self.response.response)

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def until(self, condition: Callable[[Page], object], what: str) -> None:
        deadline = Deadline(10)
        while not condition(self.page):
            assert not deadline.passed, f"waited for {what}; got so far {self.page.body!r}"
            chunk = next(self._chunks, b"")
            assert chunk, f"the stream ended before {what}; got so far {self.page.body!r}"
            self._take(chunk)

    def rest(self) -> Page:
        for chunk in self._chunks:
            self._take(chunk)
        return self.page

    def _take(self, chunk: bytes) -> None:
        self.page.body += chunk
        self.page.events += self.page.parser.feed(chunk)

    def close(self) -> None:
        self.response.close()
        self.page.close()


def sent_away(app: Flask, **environ: Any) -> bool:
    """Whether a stream that comes now is sent away."""
    with Held(app, environ_overrides=environ) as held:
        held.until(lambda page: page.parser.comments, "the first byte")
        return next(held._chunks, None) is None and was_sent_away(held.page.body)


def test_a_held_stream_is_the_same_stream(app: Flask, events: EventStream) -> None:
    """Where no connection can be had the response is the same: head, first byte, events."""
    with Held(app) as held:
        held.until(lambda page: page.parser.comments, "the first byte")

        assert held.response.status_code == 200
        assert held.response.headers["Content-Type"] == "text/event-stream; charset=utf-8"
        assert held.response.headers["Cache-Control"] == "no-store, no-transform"
        assert "Content-Length" not in held.response.headers
        assert held.page.body == PREAMBLE

        events.publish("a")
        held.until(lambda page: page.data == ["a"], "the event")


def test_a_held_stream_has_heartbeats(app: Flask) -> None:
    """A held stream is never silent for long."""
    with Held(app) as held:
        held.until(lambda page: page.parser.comments > 3, "heartbeats")


def test_a_held_stream_says_what_it_costs(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    """The first held stream logs the server's name, the cost and the reason; no other does."""
    for _ in range(2):
        with Held(app, environ_overrides={"SERVER_SOFTWARE": "waitress"}) as held:
            held.until(lambda page: page.parser.comments, "the first byte")

    (message,) = caplog.messages

    assert message == (
        "waitress: each stream holds a worker thread, because waitress does not show its sockets"
        " to applications: run it with gunicorn, uWSGI, waitress, cheroot or gevent, or set"
        " SSE_MAX_STREAMS to fewer streams than it has threads"
    )
    assert caplog.records[0].levelno == logging.WARNING


def test_the_hand_off_can_be_turned_off(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    """With SSE_HANDOFF off a server's socket is left alone, and its thread holds the stream."""
    app.config["SSE_HANDOFF"] = "off"
    client, connection = socket.socketpair()
    environ = {"werkzeug.socket": connection, "SERVER_PROTOCOL": "HTTP/1.1"}
    with client, connection, Held(app, environ_overrides=environ) as held:
        held.until(lambda page: page.parser.comments, "the first byte")
        connection.send(b"untouched")

        assert client.recv(100) == b"untouched"

    assert "because SSE_HANDOFF is off" in caplog.messages[0]


def test_no_hub_runs_on_pythons_own_loop_beside_greenlets(
    app: Flask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where threads are greenlets and uvloop is missing, no connection is taken."""
    monkeypatch.setattr(wsgi, "can_run", lambda: False)
    with Held(app) as held:
        held.until(lambda page: page.parser.comments, "the first byte")

    assert "because uvloop is not installed" in caplog.messages[0]


def test_closing_a_held_response_ends_its_stream(app: Flask, events: EventStream) -> None:
    """When the server closes the response, the hub lets the stream go."""
    with Held(app) as held:
        held.until(lambda page: page.parser.comments, "the first byte")
        held.response.close()
        held.response.close()
        wait_until(lambda: events.stats().streams == 0, what="the stream to be gone")

    assert events.stats().ended == {"left": 1}


class EightThreads:
    """A connection of waitress's, as far as its threads can be counted from there."""

    def __init__(self) -> None:
        self.adj = self.server = self.task_dispatcher = self
        self.channel_request_lookahead = 1
        self.threads = range(8)

    def asked(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("environ", "most"),
    [
        ({"wsgi.multithread": False}, 1),
        ({"wsgi.multithread": True}, 1),
        ({"wsgi.multithread": True, "waitress.client_disconnected": EightThreads().asked}, 4),
    ],
)
def test_streams_leave_threads_for_others(app: Flask, environ: dict[str, Any], most: int) -> None:
    """Half of the threads, or one, hold streams; one that ends makes room again."""
    held = [Held(app, environ_overrides=environ) for _ in range(most)]

    assert sent_away(app, **environ)

    held.pop().close()

    assert not sent_away(app, **environ)

    for each in held:
        each.close()


def test_a_server_with_a_thread_per_request_has_threads_to_spare(
    app: Flask, events: EventStream
) -> None:
    """Where each request gets a thread of its own, more than four streams may hold one."""
    app.config["SSE_HANDOFF"] = "off"
    client, connection = socket.socketpair()
    environ = {"werkzeug.socket": connection, "wsgi.multithread": True}
    held = [Held(app, environ_overrides=environ) for _ in range(10)]
    for each in held:
        each.until(lambda page: page.parser.comments, "the first byte")

    assert events.stats().streams == 10

    for each in held:
        each.close()
    client.close()
    connection.close()


def test_sending_away_is_logged_once(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    """The first stream that is sent away is logged with the reason."""
    with Held(app):
        for _ in range(2):
            assert sent_away(app)

    assert caplog.messages[1:] == [
        "A stream was sent away: all threads that can be spared hold a stream"
    ]


@pytest.mark.parametrize(
    ("configured_s", "multithread", "lifetime_s"),
    [
        (3600, True, 300),
        (0, True, 300),
        (100, True, 100),
        (3600, False, 20),
        (5, False, 5),
    ],
)
def test_a_held_thread_is_given_back(
    app: Flask,
    monkeypatch: pytest.MonkeyPatch,
    configured_s: float,
    multithread: bool,  # noqa: FBT001
    lifetime_s: float,
) -> None:
    """A stream that holds a thread lives for five minutes at most, the only one for 20 s."""
    app.config["SSE_STREAM_LIFETIME_S"] = configured_s
    adopted: list[Adoption] = []
    give = wsgi.HubThread.give

    def watch(run: Any, state: Any, adoption: Adoption) -> None:
        adopted.append(adoption)
        give(run, state, adoption)

    monkeypatch.setattr(wsgi.HubThread, "give", watch)
    with Held(app, environ_overrides={"wsgi.multithread": multithread}) as held:
        held.until(lambda page: page.parser.comments, "the first byte")

    assert [adoption.request.lifetime_s for adoption in adopted] == [lifetime_s]


def test_a_held_head_opens_nothing(app: Flask, events: EventStream) -> None:
    """HEAD holds no thread and opens no stream."""
    response = app.test_client().head("/stream")

    assert response.status_code == 200
    assert response.data == b""
    assert events.stats().opened == 0
    assert not sent_away(app)


def test_callbacks_of_a_held_response_run_once(app: Flask, events: EventStream) -> None:
    """`call_on_close` callbacks of a held response run once, when it is closed."""
    calls: list[str] = []

    @app.after_request
    def watch(response: Response) -> Response:
        response.call_on_close(lambda: calls.append("closed"))
        return response

    with Held(app) as held:
        held.until(lambda page: page.parser.comments, "the first byte")

        assert calls == []

    wait_until(lambda: events.stats().streams == 0, what="the stream to be gone")
    hub_is_idle = threading.Event()
    wsgi.hub_thread().call(hub_is_idle.set)
    hub_is_idle.wait(10)
    WORKER.finish()

    assert calls == ["closed"]


def test_a_held_iterable_is_a_stream(app: Flask, events: EventStream) -> None:
    """An iterable is sent through the held response and ends it."""
    route(app, events, lambda: ["a", {"b": 1}])
    with Held(app, "/own") as held:
        page = held.rest()

        assert page.body == PREAMBLE + b'data: a\n\ndata: {"b": 1}\n\n'


def test_a_held_iterable_begins_after_its_request(app: Flask, events: EventStream) -> None:
    """Where a thread holds the stream the iterable begins after its request too."""
    order: list[str] = []
    began = threading.Event()

    def source() -> Iterator[Any]:
        order.append("iterable")
        began.set()
        yield "x"

    @app.teardown_request
    def torn_down(_: object) -> None:
        began.wait(0.2)
        order.append("teardown")

    route(app, events, source)
    with Held(app, "/own") as held:
        held.rest()

    assert order == ["teardown", "iterable"]


def test_closing_a_held_response_closes_its_iterable(app: Flask, events: EventStream) -> None:
    """When the server closes the response, the generator is closed."""
    source = Watched("x")
    route(app, events, source)
    with Held(app, "/own") as held:
        held.until(lambda page: len(page.data) > 5, "some events")

    assert source.closed.wait(10)


def test_a_held_stream_outlives_a_default_timeout(app: Flask) -> None:
    """Where an application gave all sockets a timeout, a held stream may be silent for longer."""
    app.config["SSE_HEARTBEAT_S"] = 0.3
    socket.setdefaulttimeout(0.02)
    try:
        held = Held(app)
    finally:
        socket.setdefaulttimeout(None)
    with held:
        held.until(lambda page: page.parser.comments > 2, "heartbeats")


def test_an_iterable_that_is_sent_away_is_closed(app: Flask, events: EventStream) -> None:
    """An iterable whose stream can't be opened is closed without having begun."""
    closed: list[bool] = []

    class Source:
        def __iter__(self) -> Iterator[Any]:
            raise AssertionError("nobody shall ask")

        def close(self) -> None:
            closed.append(True)

    route(app, events, Source)
    with Held(app), Held(app, "/own") as held:
        page = held.rest()

        assert was_sent_away(page.body)

    assert closed == [True]


def test_json_is_what_flask_makes(app: Flask, events: EventStream) -> None:
    """An object that is published becomes the JSON that Flask would answer with."""
    with Held(app) as held:
        held.until(lambda page: page.parser.comments, "the first byte")
        events.publish({"b": 1, "a": [None, True]})
        held.until(lambda page: page.data, "the event")

        assert json.loads(held.page.data[0]) == {"a": [None, True], "b": 1}
