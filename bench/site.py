"""A server under test: how it is opened, published to, and what it has used."""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import urlencode

from bench.machine import cpu_ns, resident_bytes
from bench.programs import CannotRun

__all__ = ["NchanSite", "Site", "made"]

PUBLISH_WITHIN_S = 60
# nchan's answers to so many requests fit into the socket's buffer, so that they can be read later.
PIPELINED = 100


def made(sequence: int, size: int = 0) -> str:
    """An event's data: its number, the time in nanoseconds, and filling up to ``size`` bytes."""
    return f"{sequence} {time.monotonic_ns()} ".ljust(size, "x")


@dataclass
class Site:
    """A running server that takes the requests of `apps`, and the floor.

    Attributes:
        port: Where it listens on 127.0.0.1.
        pids: Its processes and its brokers', asked anew each time.
        broker_pids: Those of its brokers.
        needs_head: Whether a stream's head comes at once; flask-sse's comes with the first event.
        subscribed: How many streams it has, where only the server can tell.
    """

    port: int
    pids: Callable[[], list[int]]
    broker_pids: Sequence[int] = ()
    needs_head: bool = True
    subscribed: Callable[[], int] | None = None
    notes: dict[str, str] = field(default_factory=dict)

    def stream_path(self, channel: str = "all") -> str:
        """The path of a channel's streams; ``%d`` in the name is the number of the stream."""
        return f"/stream?channel={channel}"

    def publish(self, sequence: int, channel: str = "all", size: int = 0) -> int:
        """Publish one event. Returns the time that is in it, in nanoseconds."""
        data = made(sequence, size)
        self.post("/publish", {"channel": channel}, data)
        return int(data.split(" ")[1])

    def burst(self, first: int, count: int, channel: str = "all") -> None:
        """Publish many events, back to back."""
        self.post("/burst", {"channel": channel, "first": first, "count": count, "size": 0})

    def together(self, first: int, count: int, channel: str = "all") -> None:
        """Publish many events with one call."""
        raise CannotRun("has no call that publishes several events")

    def private(self, sequence: int, count: int) -> None:
        """Publish one event to each of the channels c0, c1, ..."""
        self.post("/private", {"first": sequence, "count": count})

    def private_to(self, sequence: int, count: int) -> None:
        """Publish one event to the channels c0, c1, ... with one call."""
        raise CannotRun("has no call that publishes to several channels")

    def post(self, path: str, query: dict[str, str | int], body: str = "") -> bytes:
        """One request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PUBLISH_WITHIN_S)
        try:
            connection.request("POST", f"{path}?{urlencode(query)}", body.encode())
            response = connection.getresponse()
            answer = response.read()
        except TimeoutError as error:
            raise CannotRun(f"{path} was not answered in {PUBLISH_WITHIN_S} s") from error
        finally:
            connection.close()
        if response.status >= http.client.BAD_REQUEST:
            _fail(path, f"{response.status} {answer[:500]!r}")
        return answer

    def cpu_ns(self) -> int:
        """Processor time of the serving processes so far, brokers included."""
        return cpu_ns(self.pids())

    def broker_cpu_ns(self) -> int:
        """Processor time of its brokers so far."""
        return cpu_ns(self.broker_pids)

    def resident_bytes(self) -> int:
        """Memory of the serving processes, without brokers."""
        return resident_bytes(set(self.pids()) - set(self.broker_pids))


class OurSite(Site):
    """The application on Flask-EventStream."""

    def together(self, first: int, count: int, channel: str = "all") -> None:
        """Publish many events with one call."""
        self.post("/together", {"channel": channel, "first": first, "count": count})

    def private_to(self, sequence: int, count: int) -> None:
        """Publish one event to the channels c0, c1, ... with one call."""
        self.post("/private-to", {"first": sequence, "count": count})


class NchanSite(Site):
    """nchan: an event is a request of its own, and a burst is requests one behind the other."""

    def burst(self, first: int, count: int, channel: str = "all") -> None:
        """Publish many events over one connection."""
        self._pipeline((channel, first + number) for number in range(count))

    def private(self, sequence: int, count: int) -> None:
        """Publish one event to each of the channels c0, c1, ..."""
        self._pipeline((f"c{number}", sequence) for number in range(count))

    def _pipeline(self, events: Iterable[tuple[str, int]]) -> None:
        waiting = list(events)
        with socket.create_connection(("127.0.0.1", self.port), PUBLISH_WITHIN_S) as connection:
            for start in range(0, len(waiting), PIPELINED):
                part = waiting[start : start + PIPELINED]
                connection.sendall(b"".join(_request(*event) for event in part))
                _read_answers(connection, len(part))


def _request(channel: str, sequence: int) -> bytes:
    body = made(sequence)
    head = f"POST /publish?channel={channel} HTTP/1.1\r\nHost: localhost\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def _read_answers(connection: socket.socket, count: int) -> None:
    answers = b""
    while answers.count(b"HTTP/1.1 20") < count:
        more = connection.recv(65_536)
        if not more:
            _fail("/publish", answers[-500:].decode("utf-8", "replace"))
        answers += more


def _fail(path: str, answer: str) -> NoReturn:
    raise CannotRun(f"{path} was answered by {answer}")
