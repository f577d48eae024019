"""What the tests of the hub have at hand."""

from __future__ import annotations

import _socket
import socket
from collections.abc import Callable, Collection, Coroutine
from typing import Any, ClassVar

from flask_eventstream.errors import EndReason
from flask_eventstream.hub.admission import Refusal
from flask_eventstream.hub.feed import FEED_OPEN
from flask_eventstream.hub.hub import Hub
from flask_eventstream.hub.observer import Unobserved
from flask_eventstream.hub.request import Reader
from harness.event_stream import EventStreamParser
from harness.http_response import HttpResponse
from harness.stage import Client, Stage, until

__all__ = [
    "HEAD",
    "LARGE",
    "PREAMBLE",
    "SMALL_BUFFER_BYTES",
    "Closings",
    "Play",
    "Told",
    "a_feed",
    "a_head",
    "counted",
    "fed",
    "is_closed",
    "opened_with_head",
    "unframed",
]


Play = Callable[[Callable[[Stage], Coroutine[Any, Any, None]]], None]


PREAMBLE = b"retry: 3000\n:\n"


HEAD = b"HTTP/1.1 200 OK\r\nServer: made-by-hand\r\nContent-Length: 0\r\n\r\n"


# More than a socket pair's kernel buffer takes where the client has a small one.
LARGE = "x" * 400_000


SMALL_BUFFER_BYTES = 4096


def a_head() -> tuple[socket.socket, _socket.socket]:
    """Where a server writes its head, and the sink that the hub reads it from."""
    server, sink = socket.socketpair()
    raw = _socket.socket(fileno=sink.detach())
    raw.settimeout(0)
    return server, raw


async def counted(hub: Hub, ended: dict[str, int]) -> None:
    """Wait for these ends: a client may hear of one before the hub does, which owns the socket."""
    await until(lambda: hub.stats().ended == ended, what=f"the ends {ended}")


def unframed(client: Client) -> HttpResponse:
    """What has come out of the connection, as an HTTP client reads it; its body feeds `events`."""
    response = HttpResponse()
    client.parser = EventStreamParser()
    client.events = client.parser.feed(response.feed(bytes(client.raw)))
    return response


async def opened_with_head(stage: Stage, hub: Hub, head: bytes = HEAD, **more: Any) -> Client:
    server, sink = a_head()
    client = stage.client(hub, head_pair=sink, **more)
    server.send(head)
    server.close()
    await client.until(lambda c: b":\n" in c.raw, "the first byte")
    await until(lambda: not stage.opening(hub), what="the stream to be live")
    return client


class Told(Unobserved):
    """An observer that remembers."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def opened(self, reader: Reader, channels: Collection[str]) -> None:
        self.calls.append(("opened", reader.stream_id, channels))

    def refused(self, reader: Reader, why: Refusal) -> None:
        self.calls.append(("refused", reader.stream_id, why))

    def closed(self, reader: Reader, channels: Collection[str], reason: EndReason) -> None:
        self.calls.append(("closed", reader.stream_id, channels, reason))


def a_feed() -> tuple[socket.socket, _socket.socket]:
    """The pump's end, and the hub's."""
    pump, theirs = socket.socketpair()
    raw = _socket.socket(fileno=theirs.detach())
    raw.settimeout(0)
    return pump, raw


async def fed(stage: Stage, **more: Any) -> tuple[socket.socket, Any, Any]:
    pump, feed = a_feed()
    hub = stage.hub(**more)
    client = stage.client(hub, feed=feed)
    await client.opened()
    await until(lambda: not stage.opening(hub), what="the feed to be read")

    assert pump.recv(10) == FEED_OPEN

    return pump, hub, client


def is_closed(sock: socket.socket) -> bool:
    """True where nobody reads what is written."""
    try:
        sock.send(b":\n")
    except BlockingIOError:
        return False
    except OSError:
        return True
    return False


class Closings(_socket.socket):
    """A socket that notes when it is closed by its number."""

    numbers: ClassVar[list[int]] = []

    def close(self) -> None:
        if self.fileno() >= 0:
            self.numbers.append(self.fileno())
        super().close()
