"""Servers that stop: streams end by themselves, in time, and are told when to come back."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from harness.asgi_servers import ASGI_KINDS
from harness.streams import Crowd, Reader
from harness.waiting import wait_until
from live.site import Site

Launch = Callable[..., Site]

STREAMS = 50

# Without a signal, the server decides by itself that it has served enough. uvicorn counts requests
# that were answered, and so not the stream.
MOST_REQUESTS = {
    "uvicorn": ["--limit-max-requests", "3"],
    "hypercorn": ["--max-requests", "4"],
    "gunicorn-asgi": ["--max-requests", "4"],
}


def assert_said_goodbye(reader: Reader) -> None:
    """The stream got a `retry:` and its end as HTTP says that a response ends."""
    # granian lets a new worker run for 3.5 s before it stops the old one.
    reader.wait_end(within_s=20)

    assert reader.raw.count(b"retry: ") == 2
    assert reader.complete


@pytest.mark.parametrize("kind", ASGI_KINDS)
def test_sigterm_does_not_hang(kind: str, launch: Launch, channel: str) -> None:
    """With 50 streams open, a server is gone within 10 s of SIGTERM."""
    site = launch(kind)
    with Crowd(site.stream_url(channel), STREAMS) as crowd:
        crowd.wait_opened(STREAMS, within_s=30)
        site.wait_streams(STREAMS)

        assert site.server.stop()
        crowd.wait_ended(STREAMS, within_s=10)


@pytest.mark.parametrize("kind", ASGI_KINDS)
def test_sigterm_says_goodbye(kind: str, launch: Launch, channel: str) -> None:
    """A stream gets a `retry:` and its end when its server gets SIGTERM."""
    site = launch(kind)
    with site.read(channel) as reader, Reader(f"{site.url}/numbers") as numbers:
        wait_until(lambda: reader.comments, what="an open stream")
        numbers.next_event()
        site.server.signal(signal.SIGTERM)

        assert_said_goodbye(reader)
        assert_said_goodbye(numbers)
    # Another signal while it is ending is not what is asked about.
    site.server.wait_ended()


def wait_written(site: Site, writes: int) -> None:
    wait_until(lambda: site.stats()["deliveries"] >= writes, what=f"{writes} writes")


@pytest.mark.parametrize("kind", ASGI_KINDS)
def test_a_client_that_takes_nothing_delays_nothing(
    kind: str, launch: Launch, channel: str
) -> None:
    """A server with a stream whose client does not read is gone within 10 s of SIGTERM."""
    options = ["--workers-kill-timeout", "2"] if kind == "granian" else []
    site = launch(kind, options=options, SSE_MAX_BUFFER_BYTES=64 * 1024 * 1024)
    with site.read(channel):
        for number in range(6):
            # More than the kernel's buffers take: some of it waits in the server.
            site.publisher.publish(f"{number} {'x' * 3_000_000}", channel=channel)
            wait_written(site, number + 1)

        assert site.server.stop()


@pytest.mark.parametrize("kind", MOST_REQUESTS)
def test_served_enough(kind: str, launch: Launch, channel: str) -> None:
    """A stream says goodbye when its server has served as many requests as it shall."""
    site = launch(kind, options=MOST_REQUESTS[kind])
    with site.read(channel) as reader:
        wait_until(lambda: reader.comments, what="an open stream")
        worker, *_ = [site.answering() for _ in range(4)]

        assert_said_goodbye(reader)
    if kind == "uvicorn":
        site.server.wait_ended()
    else:
        site.wait_answered_by_another(worker)


@pytest.mark.parametrize("kind", ["granian", "gunicorn-asgi"])
def test_sighup_says_goodbye(kind: str, launch: Launch, channel: str) -> None:
    """A stream says goodbye when its server reloads by SIGHUP, and another worker answers."""
    site = launch(kind)
    old = site.ping()
    with site.read(channel) as reader:
        wait_until(lambda: reader.comments, what="an open stream")
        site.server.signal(signal.SIGHUP)

        assert_said_goodbye(reader)
    site.wait_answered_by_another(old)
