"""Event stream clients that nobody here wrote read our streams."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import httpx_sse
import pytest
import requests
import sseclient

from flask_eventstream import Publisher
from harness.programs import program
from harness.servers import Server
from harness.streams import Reader
from harness.waiting import wait_until

SCRIPT = Path(__file__).parents[2] / "js" / "read.mjs"

LAST = "that is all"
EVENTS = [
    ("message", "plain"),
    ("note", "with a name"),
    ("message", "first line\nsecond line\n\nfourth line"),
    ("note", "  leading spaces: and a colon"),
    ("message", "«ü» ☃ 🎉 日本語"),
    ("message", "a vertical tab \x0b and a line separator \u2028 cut nothing"),
    ("message", '{"json": [1, 2, null]}'),
    ("message", "x" * 100_000),
    ("message", LAST),
]


class Got(NamedTuple):
    """One event, as a client has handed it out."""

    type: str
    data: str
    id: str


class Client:
    """A foreign client at work. Its own thread adds what it reads; the test's thread looks."""

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.opened = 0
        self.error = ""

    @property
    def events(self) -> list[tuple[str, str]]:
        return [(event.type, event.data) for event in self.got]

    @contextmanager
    def reading(self, events: Iterable[Got]) -> Iterator[Client]:
        """Reads a blocking iterable up to the event LAST in a thread."""

        def collect() -> None:
            try:
                for event in events:
                    self.got.append(event)
                    if event.data == LAST:
                        return
            except (httpx.HTTPError, requests.RequestException) as error:
                self.error = repr(error)

        self.opened = 1
        thread = threading.Thread(target=collect, daemon=True)
        thread.start()
        yield self
        thread.join(timeout=10)

        assert self.error == ""
        assert not thread.is_alive()


@contextmanager
def read_with_httpx_sse(url: str) -> Iterator[Client]:
    with (
        httpx.Client(timeout=10) as http,
        httpx_sse.connect_sse(http, "GET", url) as source,
        Client().reading(Got(e.event, e.data, e.id) for e in source.iter_sse()) as client,
    ):
        yield client


@contextmanager
def read_with_sseclient_and_httpx(url: str) -> Iterator[Client]:
    with (
        httpx.Client(timeout=10) as http,
        http.stream("GET", url, headers={"Accept": "text/event-stream"}) as response,
        Client().reading(sseclient_events(response.iter_bytes())) as client,
    ):
        yield client


@contextmanager
def read_with_sseclient_and_requests(url: str) -> Iterator[Client]:
    # One byte at a time: of a body that is not chunked, requests hands out 128 at once and waits
    # until it has them.
    headers = {"Accept": "text/event-stream"}
    with (
        closing(requests.get(url, stream=True, headers=headers, timeout=10)) as response,
        Client().reading(sseclient_events(response)) as client,
    ):
        yield client


def sseclient_events(source: Iterator[bytes]) -> Iterator[Got]:
    for event in sseclient.SSEClient(source).events():
        yield Got(event.event, event.data, event.id or "")


@contextmanager
def read_with_node(url: str) -> Iterator[Client]:
    """Reads with npm `eventsource`, which comes back by itself when it was cut off."""
    client = Client()
    command = [program("node"), str(SCRIPT), url, "note"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, encoding="utf-8") as process:
        assert process.stdout is not None
        lines = process.stdout

        def collect() -> None:
            for line in lines:
                event = json.loads(line)
                if "open" in event:
                    client.opened += 1
                else:
                    client.got.append(Got(**event))

        thread = threading.Thread(target=collect, daemon=True)
        thread.start()
        try:
            wait_until(lambda: client.opened or process.poll() is not None, what="node's stream")
            yield client
        finally:
            process.kill()
            thread.join(timeout=10)


def wait_data(client: Client, data: str, *, within_s: float = 10) -> None:
    wait_until(lambda: ("message", data) in client.events, within_s=within_s, what=f"{data!r}")


def wait_comments(reader: Reader, count: int) -> None:
    wait_until(lambda: reader.comments >= count, what=f"{count} comments")


Start = Callable[..., Server]
Read = Callable[[str], AbstractContextManager[Client]]

each_client = pytest.mark.parametrize(
    "read",
    [
        pytest.param(read_with_httpx_sse, id="httpx-sse"),
        pytest.param(read_with_sseclient_and_httpx, id="sseclient-py+httpx"),
        pytest.param(read_with_sseclient_and_requests, id="sseclient-py+requests"),
        pytest.param(read_with_node, id="eventsource"),
    ],
)

pytestmark = pytest.mark.usefixtures("foreign")


@each_client
def test_reads(read: Read, start: Start, broker_url: str) -> None:
    """Type, data and id of every event come out as they were published."""
    publisher = Publisher(broker_url)
    with read(f"{start().url}/stream?channel=news") as client:
        for type_, data in EVENTS[:-1]:
            publisher.publish(data, type=None if type_ == "message" else type_, channel="news")
        publisher.publish(LAST, id="the-end", channel="news")
        wait_data(client, LAST)

    assert client.events == EVENTS
    assert client.got[-1].id == "the-end"
    assert all(event.id for event in client.got)
    assert len({event.id for event in client.got}) == len(EVENTS)


@each_client
def test_gets_each_event_at_once(read: Read, start: Start, broker_url: str) -> None:
    """A short event is handed out without waiting for anything that comes after it."""
    publisher = Publisher(broker_url)
    server = start(SSE_HEARTBEAT_S=60)
    with read(f"{server.url}/stream?channel=news") as client:
        for data in ("a", "b", LAST):
            publisher.publish(data, channel="news")
            wait_data(client, data)


@each_client
def test_sees_no_event_in_heartbeats(read: Read, start: Start, broker_url: str) -> None:
    """Heartbeats before and between events make no event of their own."""
    publisher = Publisher(broker_url)
    url = f"{start(SSE_HEARTBEAT_S=0.2).url}/stream?channel=news"
    with read(url) as client, Reader(url) as beats:
        for data in ("one", "two", LAST):
            wait_comments(beats, beats.comments + 4)
            publisher.publish(data, channel="news")
        wait_data(client, LAST)

    assert [data for _, data in client.events] == ["one", "two", LAST]


def test_node_resumes(start: Start, broker_url: str) -> None:
    """`eventsource` of npm comes back after a cut with Last-Event-ID, and misses nothing."""
    publisher = Publisher(broker_url)
    texts = ["before", *(f"meanwhile {number}" for number in range(20)), LAST]
    server = start()
    with read_with_node(f"{server.url}/stream?channel=news") as client:
        publisher.publish(texts[0], channel="news")
        wait_data(client, texts[0])
        server.kill()
        for text in texts[1:]:
            publisher.publish(text, channel="news")
        start(port=server.port)
        wait_data(client, LAST, within_s=20)

    assert [data for _, data in client.events] == texts
