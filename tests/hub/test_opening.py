"""`hub.opening`: what a stream's client is sent before its first event."""

from __future__ import annotations

import _socket
import asyncio

import pytest

from flask_eventstream.hub.adoption import Adoption
from flask_eventstream.hub.request import StreamRequest
from harness.stage import Stage, until
from hub.at_hand import (
    HEAD,
    PREAMBLE,
    Play,
    a_head,
    counted,
    opened_with_head,
    unframed,
)


def test_a_stream_opens_with_retry_and_a_first_byte(play: Play) -> None:
    """A fresh stream begins with the retry line and a comment, and no blank line."""

    async def scenario(stage: Stage) -> None:
        client = await stage.opened(stage.hub())

        assert client.raw == PREAMBLE

    play(scenario)


def test_padding_comes_first(play: Play) -> None:
    """Padding is a comment of the size that was asked for, before everything else."""

    async def scenario(stage: Stage) -> None:
        client = await stage.opened(stage.hub(), padding_bytes=2048)

        assert client.raw == b":" + b" " * 2046 + b"\n" + PREAMBLE

    play(scenario)


def test_the_servers_head_is_relayed(play: Play) -> None:
    """The head that the server wrote comes first, in pieces or not, framed by the end."""

    async def scenario(stage: Stage) -> None:
        server, sink = a_head()
        client = stage.client(stage.hub(), head_pair=sink)
        for start in range(0, len(HEAD), 7):
            server.send(HEAD[start : start + 7])
            await asyncio.sleep(0)
        await client.until(lambda c: c.raw.endswith(PREAMBLE), "the preamble")
        server.close()

        assert client.raw == (
            b"HTTP/1.1 200 OK\r\nServer: made-by-hand\r\nConnection: close\r\n\r\n" + PREAMBLE
        )

    play(scenario)


def test_a_server_that_writes_no_head_ends_the_stream(play: Play) -> None:
    """Without a head from the server the stream ends with the reason `no-head`."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        server, sink = a_head()
        client = stage.client(hub, head_pair=sink)
        server.close()
        await client.end()

        assert client.raw == b""
        await counted(hub, {"no-head": 1})

    play(scenario)


def test_another_answer_of_middleware_is_passed_on(play: Play) -> None:
    """A head that is not 200 reaches the client, and no stream follows it."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        server, sink = a_head()
        client = stage.client(hub, head_pair=sink)
        server.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nforbidden")
        server.close()
        await client.end()

        assert client.raw == b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n"
        await counted(hub, {"no-head": 1})

    play(scenario)


@pytest.mark.parametrize(
    ("may_chunk", "version", "chunked"),
    [(True, b"HTTP/1.1", True), (True, b"HTTP/1.0", False), (False, b"HTTP/1.1", False)],
)
def test_chunks_are_for_http_1_1(
    play: Play, version: bytes, *, may_chunk: bool, chunked: bool
) -> None:
    """A stream is framed in chunks where client and server both speak HTTP/1.1, else not."""

    async def scenario(stage: Stage) -> None:
        head = HEAD.replace(b"HTTP/1.1", version)
        client = await opened_with_head(stage, stage.hub(), head, may_chunk=may_chunk)
        response = unframed(client)

        assert ("transfer-encoding" in response.headers) is chunked
        assert client.raw.endswith(b"e\r\n" + PREAMBLE + b"\r\n" if chunked else PREAMBLE)

    play(scenario)


def test_the_head_waits_no_longer_than_a_second_for_the_log(play_in_no_time: Play) -> None:
    """Where the log is away the stream opens after one second, and goes live when it is back."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        stage.log.present.clear()
        client = stage.client(hub)
        await asyncio.sleep(0.99)
        client.take()

        assert client.raw == b""

        await asyncio.sleep(0.02)
        client.take()

        assert client.raw == PREAMBLE

        stage.log.present.set()
        await until(lambda: not stage.opening(hub), what="the stream to be live")
        stage.publish("back")
        await client.got("back")

        assert client.raw.count(b"retry") == 1

    play_in_no_time(scenario)


def test_a_client_that_leaves_before_its_head_takes_nothing_from_others(play: Play) -> None:
    """A live reader goes on getting events after another left before the server's head came."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        live = await stage.opened(hub)
        server, sink = a_head()
        stage.client(hub, head_pair=sink).close()
        await until(lambda: hub.stats().streams == 1, what="the other one to be gone")
        server.close()
        stage.publish("still here")
        await live.got("still here")

        await counted(hub, {"left": 1})

    play(scenario)


def test_a_connection_that_can_not_be_used_fails_alone(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection that the loop can't take is logged once; the hub goes on with the others."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        live = await stage.opened(hub)
        broken = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
        hub.adopt(Adoption(broken, StreamRequest(("sse",))))
        await until(lambda: hub.stats().streams == 1, what="the broken one to be gone")
        stage.publish("x")
        await live.got("x")

        await counted(hub, {"failed": 1})

    play(scenario)

    assert [record.getMessage() for record in caplog.records] == ["A stream could not be opened"]


def test_who_takes_nothing_of_the_past_costs_a_page(play: Play) -> None:
    """For a reader far behind who takes nothing one page waits; one who takes it gets it all."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        (first,) = stage.publish("first")
        stage.publish(*("x" * 50_000 for _ in range(60)))
        client = stage.client(hub, after=first, buffer_bytes=4096)
        client.reads = False
        (stream,) = hub._streams
        await until(lambda: stream.paused, what="a page that waits")
        for _ in range(20):
            await asyncio.sleep(0)
        transport = stream._transport
        assert transport is not None

        assert stage.log.replays == 1
        assert transport.get_write_buffer_size() < 1.2 * 1024 * 1024

        client.reads = True
        await client.until(lambda c: len(c.data) == 60, "all of it")
        await until(lambda: not stage.opening(hub), what="the stream to be live")
        stage.publish("live")
        await client.got(*["x" * 50_000] * 60, "live")

    play(scenario)
