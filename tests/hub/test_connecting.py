"""`hub.connecting`: a connection given to the loop, and closed once."""

from __future__ import annotations

import _socket
import asyncio
import os
import socket

import pytest

from flask_eventstream.hub.adoption import Adoption
from flask_eventstream.hub.request import StreamRequest
from harness.stage import LOOPS, Stage, perform, until
from hub.at_hand import (
    Closings,
    Play,
)


def test_a_descriptor_is_closed_once(play: Play) -> None:
    """A client's descriptor is closed once: by the second time it could be another thread's."""
    closed: list[int] = []

    class Watched(_socket.socket):
        def close(self) -> None:
            closed.append(self.fileno())
            super().close()

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        client, theirs = socket.socketpair()
        connection = Watched(fileno=theirs.detach())
        connection.settimeout(0)
        fd = connection.fileno()
        hub.adopt(Adoption(connection, StreamRequest(("sse",))))
        await until(lambda: hub.stats().streams and not stage.opening(hub), what="the stream")
        client.close()
        await until(lambda: hub.stats().streams == 0, what="the stream to be gone")
        await until(lambda: connection.fileno() == -1, what="the descriptor to be closed")
        by_the_loop_itself = not isinstance(stage.loop, asyncio.BaseEventLoop)

        assert [each for each in closed if each != -1] == ([] if by_the_loop_itself else [fd])

        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)

    play(scenario)


def test_a_feed_is_not_closed_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that leaves while its feed is connected does not end what got the feed's number.

    uvloop closes the descriptor itself, and would close such a socket once more.
    """
    monkeypatch.setattr(Closings, "numbers", [])

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        pump, ours = socket.socketpair()
        feed = Closings(fileno=ours.detach())
        feed.settimeout(0)
        stage.client(hub, feed=feed)
        (stream,) = hub._streams
        for _ in range(1000):
            if stream.feed is not None:
                break
            await asyncio.sleep(0)
        assert stream.opening is not None
        stream.opening.cancel()
        await until(lambda: not hub.stats().streams, what="the stream to be gone")

        pump.settimeout(10)
        while pump.recv(10):
            pass  # the word to begin may be on its way
        assert Closings.numbers == []
        pump.close()

    perform(LOOPS["uvloop"], scenario)
