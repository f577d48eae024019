"""`flask_eventstream.servers.asgi.app`, called as a server calls it, on the test's own loop."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, Response, request, stream_with_context

from flask_eventstream import EventStream
from flask_eventstream.asgi import EventStreamASGI
from flask_eventstream.servers.asgi import body as asgi_body
from flask_eventstream.servers.asgi.home import home_here
from servers.asgi.asgi_client import Message, Request, opened, run, until


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
        await home_here().stop()
        await first.served
        late = Request("/stream")
        await late.start(application)

        assert late.sent[0]["status"] == 200
        assert late.body.startswith(b"retry: ")
        assert late.complete

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
        await until(lambda: not any(hub.stats().streams for hub in home_here().hubs), "its end")

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


def test_a_stream_without_a_transport_leaves_nobody_waiting(
    app: Flask, events: EventStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the hub fails before it has the connection, the response ends, and that in order."""

    async def fail(*_: object) -> None:
        raise RuntimeError("no transport")

    monkeypatch.setattr("flask_eventstream.hub.opening.connect", fail)

    async def test() -> None:
        request = Request("/stream")
        await request.start(EventStreamASGI(app))

        assert request.sent[0]["status"] == 200
        assert request.complete
        assert events.stats().streams == 0

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


# ---- requests


def test_a_name_with_an_underscore_is_dropped(app: Flask) -> None:
    """A header that would pass for another one, which a proxy guards, is not there."""
    seen: list[dict[str, str]] = []

    @app.get("/who")
    def who() -> str:
        names = ("X-Forwarded-User", "Last-Event-ID", "Content-Length", "X-Other")
        seen.append({name: request.headers[name] for name in names if name in request.headers})
        return ""

    async def test() -> None:
        asked = Request("/who")
        asked.scope["headers"] = [
            (b"x_forwarded_user", b"admin"),
            (b"x-forwarded_user", b"admin"),
            (b"last_event_id", b"7"),
            (b"content_length", b"5"),
            (b"x-other", b"kept"),
        ]
        await asked.start(EventStreamASGI(app))

    run(test())
    assert seen == [{"X-Other": "kept"}]


def an_upload(length: int | None = 10, path: str = "/upload") -> Request:
    upload = Request(path)
    upload.scope["method"] = "POST"
    framing = (b"transfer-encoding", b"chunked") if length is None else None
    upload.scope["headers"] = [framing or (b"content-length", str(length).encode())]
    return upload


@pytest.fixture
def bodies(app: Flask) -> list[bytes]:
    """What /upload is given."""
    bodies: list[bytes] = []

    @app.post("/upload")
    def upload() -> str:
        bodies.append(request.get_data())
        return "taken"

    return bodies


def test_a_body_that_does_not_come_holds_no_thread(app: Flask, bodies: list[bytes]) -> None:
    """However many clients announce a body and send none, others are answered."""

    async def test() -> None:
        application = EventStreamASGI(app, threads=1)
        silent = [an_upload() for _ in range(20)]
        for each in silent:
            each.pieces = []
            each.start(application)
        await asyncio.sleep(0)
        honest = an_upload(4)
        honest.pieces = [(b"ab", True), (b"cd", False)]
        await honest.start(application)

        assert honest.body == b"taken"
        assert [each.sent for each in silent] == [[]] * 20
        for each in silent:
            await each.leave()
        assert [each.sent for each in silent] == [[]] * 20

    run(test())
    assert bodies == [b"abcd"]


def test_a_body_that_comes_too_slowly(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who takes too long gets 408, as the last answer of its connection."""
    monkeypatch.setattr(asgi_body, "PATIENCE_S", 0.05)

    async def test() -> None:
        slow = an_upload()
        slow.pieces = [(b"a", True)]
        await slow.start(EventStreamASGI(app))

        assert slow.sent[0]["status"] == 408
        assert (b"connection", b"close") in slow.sent[0]["headers"]
        assert slow.complete

    run(test())


@pytest.mark.parametrize("length", [300_000, None])
def test_a_large_body_arrives_whole(app: Flask, bodies: list[bytes], length: int | None) -> None:
    """A body of any size, announced or in chunks, is what the view reads."""
    sent = bytes(range(256)) * 1200

    async def test() -> None:
        upload = an_upload(None if length is None else len(sent))
        cuts = range(0, len(sent), 10_000)
        upload.pieces = [(sent[at : at + 10_000], at + 10_000 < len(sent)) for at in cuts]
        await upload.start(EventStreamASGI(app))

        assert upload.body == b"taken"

    run(test())
    assert bodies == [sent]


@pytest.mark.parametrize("length", [1000, None])
def test_what_the_app_refuses_is_not_taken_in(app: Flask, length: int | None) -> None:
    """A body that is larger than the application takes is refused by it, and not waited for."""
    app.config["MAX_CONTENT_LENGTH"] = 100

    @app.post("/upload")
    def upload() -> str:
        return str(len(request.get_data()))

    async def test() -> None:
        upload = an_upload(length)
        upload.pieces = [(b"x" * 60, True)] * 2 if length is None else []
        await upload.start(EventStreamASGI(app))

        assert upload.sent[0]["status"] == 413

    run(test())


def test_an_iterable_reads_the_body_later(app: Flask, events: EventStream) -> None:
    """What runs behind `sse.response` may read the request's body when the view is over."""

    @app.post("/upload")
    def upload() -> Response:
        def items() -> Iterator[str]:
            yield request.get_data(as_text=True)

        return events.response(stream_with_context(items()))

    async def test() -> None:
        upload = an_upload(5)
        upload.pieces = [(b"hello", False)]
        await upload.start(EventStreamASGI(app))

        assert b"data: hello\n" in upload.body

    run(test())


def test_a_stream_on_two_loops(app: Flask, events: EventStream) -> None:
    """One application on two servers of one process counts all its streams, and bounds them."""
    app.config["SSE_MAX_STREAMS"] = 3
    application = EventStreamASGI(app)

    async def other() -> Request:
        request = await opened(application)
        await request.leave()
        return request

    async def test() -> None:
        kept = [await opened(application) for _ in range(2)]
        for _ in range(4):  # in turn: each switch of loops must find the hub that it had
            await asyncio.to_thread(run, other())
            more = await opened(application)
            assert events.stats().streams == 3
            await more.leave()
            await until(lambda: events.stats().streams == 2, "a stream less")
        third = await opened(application)
        sent_away = await asyncio.to_thread(asyncio.run, asked())

        assert sent_away.complete
        assert not third.complete
        for each in (*kept, third):
            await each.leave()

    async def asked() -> Request:
        request = Request("/stream")
        await request.start(application)
        return request

    run(test())
