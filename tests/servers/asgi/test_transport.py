"""`flask_eventstream.servers.asgi.transport`: a stream's bytes on their way to a server."""

from __future__ import annotations

import asyncio
from typing import Any

from flask import Flask

from flask_eventstream import EventStream
from flask_eventstream.asgi import EventStreamASGI
from flask_eventstream.servers.asgi.transport import AsgiTransport
from servers.asgi.asgi_client import Request, opened, run, until


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


class Protocol(asyncio.Protocol):
    """A stream, as its transport sees it."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def connection_made(self, transport: Any) -> None:
        self.heard.append("made")

    def connection_lost(self, exc: Exception | None) -> None:
        self.heard.append(f"lost {exc}")

    def pause_writing(self) -> None:
        self.heard.append("pause")

    def resume_writing(self) -> None:
        self.heard.append("resume")


def a_transport(request: Request, **more: Any) -> AsgiTransport:
    transport = AsgiTransport(request.send, **{"break_off": None, "backlog": None, **more})
    transport.head = {"type": "http.response.start", "status": 200, "headers": []}
    return transport


def test_a_stream_that_never_got_it() -> None:
    """A transport that no stream ever took ends the response politely, and nobody waits for it."""

    async def test() -> None:
        request = Request("/stream")
        transport = a_transport(request)
        staying = asyncio.ensure_future(transport.stay(request.receive))
        transport.detach()
        await staying

        assert request.sent[0]["status"] == 200
        assert request.complete

    run(test())


def test_what_is_written_is_paused_and_resumed() -> None:
    """Past the bound the stream is told to pause, and to go on at a quarter of it."""

    async def test() -> None:
        request, protocol = Request("/stream"), Protocol()
        transport = a_transport(request)
        transport.connect(protocol)
        transport.set_write_buffer_limits(high=10)
        request.may_send.clear()
        transport.write(b"x" * 11)
        assert protocol.heard == ["made", "pause"]
        request.may_send.set()
        await until(lambda: protocol.heard[-1] == "resume", "the word to go on")
        transport.close()
        await until(lambda: protocol.heard[-1] == "lost None", "the end")

        assert transport.is_closing()
        assert request.body == b"x" * 11
        assert request.complete

    run(test())


def test_what_waits_in_the_server_counts() -> None:
    """While much waits in the server itself, it is given no more."""

    async def test() -> None:
        request, protocol = Request("/stream"), Protocol()
        waiting = 100_000
        transport = a_transport(request, backlog=lambda: waiting)
        transport.connect(protocol)
        transport.write(b"first")
        await until(lambda: request.body == b"first", "the first piece")
        transport.write(b"second")
        await asyncio.sleep(0)
        assert request.body == b"first"
        waiting = 0
        await until(lambda: request.body == b"firstsecond", "the second")

    run(test())


def test_a_client_that_takes_nothing_is_broken_off() -> None:
    """Where the server shows how, the connection is broken off, and nothing is sent any more."""

    async def test() -> None:
        request, protocol, broken = Request("/stream"), Protocol(), []
        transport = a_transport(request, break_off=lambda: broken.append(True))
        transport.connect(protocol)
        transport.write(b"x")
        await until(lambda: request.body == b"x", "a byte")
        transport.abort()
        transport.write(b"y")
        await until(lambda: protocol.heard[-1] == "lost None", "the end")

        assert broken == [True]
        assert request.body == b"x"

    run(test())


def test_who_left_before_gets_no_stream() -> None:
    """A client that left before its stream came ends it at once."""

    async def test() -> None:
        request, protocol = Request("/stream"), Protocol()
        transport = a_transport(request)
        transport.lose()
        transport.connect(protocol)
        await until(lambda: protocol.heard == ["made", "lost None"], "the end")

    run(test())
