"""`hub.feed`: the stream of an application's own iterable."""

from __future__ import annotations

import asyncio

from flask_eventstream.hub.feed import FEED_FAILED
from harness.stage import Stage, until
from hub.at_hand import (
    SMALL_BUFFER_BYTES,
    Play,
    a_feed,
    counted,
    fed,
    is_closed,
)


def test_a_feed_is_the_stream(play: Play) -> None:
    """What the feed brings reaches the client, and the end of the feed ends the stream."""

    async def scenario(stage: Stage) -> None:
        pump, hub, client = await fed(stage)
        pump.send(b"data: 1\n\ndata: 2\n\n")
        await client.got("1", "2")
        pump.close()
        await client.end()

        await counted(hub, {"finished": 1})

    play(scenario)


def test_a_feed_that_failed_says_so(play: Play) -> None:
    """A feed whose source raised ends the stream with the reason `failed`."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        pump, feed = a_feed()
        client = stage.client(hub, feed=feed)
        await client.opened()
        await until(lambda: not stage.opening(hub), what="the feed to be read")
        pump.recv(10)
        pump.send(b"data: 1\n\n" + FEED_FAILED)
        pump.close()
        await client.end()

        assert client.data == ["1"]
        await counted(hub, {"failed": 1})

    play(scenario)


def test_a_silent_feed_has_heartbeats(play: Play) -> None:
    """Heartbeats come while the feed is silent, and none within a line."""

    async def scenario(stage: Stage) -> None:
        pump, _, client = await fed(stage, heartbeat_s=0.05)
        await client.until(lambda c: c.parser.comments > 3, "heartbeats")
        pump.send(b"data: a")
        await client.until(lambda c: c.raw.endswith(b"data: a"), "half a line")
        (other,) = [await stage.opened(stage.hub(heartbeat_s=0.05))]
        await other.until(lambda c: c.parser.comments > 4, "heartbeats of another stream")
        pump.send(b"b\n\n")
        await client.got("ab")
        pump.close()

    play(scenario)


def test_a_feed_whose_reader_left_is_closed(play: Play) -> None:
    """When the client leaves, the feed's other end sees it."""

    async def scenario(stage: Stage) -> None:
        pump, _, client = await fed(stage)
        pump.setblocking(False)  # noqa: FBT003  the method's name says what is False
        client.close()
        await until(lambda: is_closed(pump), what="the feed to be closed")
        pump.close()

    play(scenario)


def test_a_feed_of_a_refused_stream_is_closed(play: Play) -> None:
    """When a stream with a feed is refused, the feed's other end sees it."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub(max_streams=1)
        await stage.opened(hub)
        pump, feed = a_feed()
        pump.setblocking(False)  # noqa: FBT003  the method's name says what is False
        await stage.client(hub, feed=feed).end()
        await until(lambda: is_closed(pump), what="the feed to be closed")
        pump.close()

    play(scenario)


def test_a_slow_reader_slows_its_feed(play: Play) -> None:
    """While the client reads nothing, the feed is read no further than the buffers are large."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub(max_buffer_bytes=10_000)
        pump, feed = a_feed()
        pump.setblocking(False)  # noqa: FBT003  the method's name says what is False
        client = stage.client(hub, feed=feed, buffer_bytes=SMALL_BUFFER_BYTES)
        await client.opened()
        client.reads = False
        sent = 0
        frame = b"data: " + b"x" * 1000 + b"\n\n"
        blocked = 0
        while blocked < 50:
            try:
                sent += pump.send(frame)
                blocked = 0
            except BlockingIOError:
                blocked += 1
                await asyncio.sleep(0.001)

            assert sent < 5_000_000

        client.reads = True
        await client.until(lambda c: len(c.raw) >= sent, "all that was sent")
        pump.recv(10)
        pump.close()
        await client.end()

        await counted(hub, {"finished": 1})

    play(scenario)
