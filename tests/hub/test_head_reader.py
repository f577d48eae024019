"""The sink, on the loops that it runs on."""

from __future__ import annotations

import _socket
import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from flask_eventstream.hub.head_reader import HeadReader
from harness.stage import LOOPS, Stage, perform, until

Play = Callable[[Callable[[Stage], Coroutine[Any, Any, None]]], None]

HEAD = b"HTTP/1.1 200 OK\r\nServer: x"


@pytest.fixture(params=LOOPS)
def play(request: pytest.FixtureRequest) -> Play:
    """Run a scenario on each kind of loop."""
    return lambda scenario: perform(LOOPS[request.param], scenario)


def a_sink(loop: asyncio.AbstractEventLoop) -> tuple[socket.socket, HeadReader]:
    """The server's end, and the sink."""
    server, theirs = socket.socketpair()
    raw = _socket.socket(fileno=theirs.detach())
    raw.settimeout(0)
    return server, HeadReader(loop, raw)


async def head_of(sink: HeadReader) -> bytes:
    return await asyncio.wait_for(asyncio.shield(sink.head), 10)


def test_the_head_is_what_stands_before_the_blank_line(play: Play) -> None:
    """The head is given without its blank line and without the body."""

    async def scenario(stage: Stage) -> None:
        server, sink = a_sink(stage.loop)
        server.send(HEAD + b"\r\n\r\nbody")

        assert await head_of(sink) == HEAD

        server.close()

    play(scenario)


def test_a_head_may_come_in_pieces(play: Play) -> None:
    """A head that comes byte by byte is the same head."""

    async def scenario(stage: Stage) -> None:
        server, sink = a_sink(stage.loop)
        for byte in HEAD + b"\r\n\r\n":
            server.send(bytes([byte]))
            await asyncio.sleep(0)

        assert await head_of(sink) == HEAD

        server.close()

    play(scenario)


def test_no_head_is_an_empty_head(play: Play) -> None:
    """A server that closes before its head is complete gives an empty head."""

    async def scenario(stage: Stage) -> None:
        server, sink = a_sink(stage.loop)
        server.send(HEAD)
        server.close()

        assert await head_of(sink) == b""

    play(scenario)


def test_a_broken_pair_is_an_empty_head(play: Play) -> None:
    """A server end that breaks off gives an empty head."""

    async def scenario(stage: Stage) -> None:
        server, sink = a_sink(stage.loop)
        sink._socket.send(b"unread")  # closing with unread bytes breaks a socket pair
        server.close()

        assert await head_of(sink) == b""

    play(scenario)


def test_an_endless_head_is_given_up(play: Play) -> None:
    """More than 256 KiB without a blank line is no head; what the server still writes is read."""

    async def scenario(stage: Stage) -> None:
        server, sink = a_sink(stage.loop)
        server.setblocking(False)  # noqa: FBT003  the name of the method says what is False
        sent = 0
        while not sink.head.done() and sent < 1_000_000:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                sent += server.send(b"x" * 8192)
            await asyncio.sleep(0)

        assert await head_of(sink) == b""
        assert sent > 256 * 1024

        left = 1_000_000
        while left:
            with contextlib.suppress(BlockingIOError):
                left -= server.send(b"x" * min(left, 8192))
            await asyncio.sleep(0)
        server.close()

    play(scenario)


def test_a_head_that_is_too_long_is_none(play: Play) -> None:
    """Of a head of more than 256 KiB nothing is given, also where its end came with the rest."""

    async def scenario(stage: Stage) -> None:
        server, sink = a_sink(stage.loop)
        server.setblocking(False)  # noqa: FBT003  the name of the method says what is False
        unsent = b"x" * (256 * 1024 + 1) + b"\r\n\r\n"
        while unsent:
            with contextlib.suppress(BlockingIOError):
                unsent = unsent[server.send(unsent) :]
            await asyncio.sleep(0)

        assert await head_of(sink) == b""

        server.close()

    play(scenario)


def test_the_rest_is_read_and_thrown_away(play: Play) -> None:
    """After the head the server may write as much as it likes; none of its writes fails."""

    async def scenario(stage: Stage) -> None:
        server, sink = a_sink(stage.loop)
        server.setblocking(False)  # noqa: FBT003  the name of the method says what is False
        server.send(HEAD + b"\r\n\r\n")
        await head_of(sink)
        left = 2_000_000
        while left:
            try:
                left -= server.send(b"x" * min(left, 65_536))
            except BlockingIOError:
                await asyncio.sleep(0)
        server.close()
        await until(lambda: sink._socket.fileno() == -1, what="the sink to be closed")

        assert len(sink._buffer) == 0

    play(scenario)


def test_nobody_needs_to_wait_for_the_head(play: Play) -> None:
    """A head that comes when nobody waits for it any more does no harm."""

    async def scenario(stage: Stage) -> None:
        server, sink = a_sink(stage.loop)
        sink.head.cancel()
        server.send(HEAD + b"\r\n\r\n")
        server.close()
        await until(lambda: sink._socket.fileno() == -1, what="the sink to be closed")

    play(scenario)
