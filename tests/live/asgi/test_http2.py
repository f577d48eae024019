"""HTTP/2: a hundred streams share one connection, and not each other's fate."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from live.asgi.asgi_site import run_asgi_site
from live.asgi.http2_client import Http2
from live.claims import assert_noticed_within_a_second
from live.site import Site

# What hypercorn allows on one connection by default; RFC 9113 recommends no fewer.
STREAMS = 100

EVENT_BYTES = 200_000
MOST_EVENTS = 100


@pytest.fixture(scope="module", params=["hypercorn", "granian"])
def shared_site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A site on each server that speaks HTTP/2 without TLS, and HTTP/1.1 on the same port."""
    folder = tmp_path_factory.mktemp("site")
    with run_asgi_site(request.param, folder, SSE_MAX_BUFFER_BYTES=500_000) as site:
        yield site


def opened(client: Http2, channel: str, count: int) -> list[int]:
    """Open streams, and wait for the first line of each."""
    numbers = [client.open(f"/stream?channel={channel}") for _ in range(count)]
    client.until(lambda: all(b":\n" in client.bodies[each] for each in numbers), "open streams")
    return numbers


def test_a_hundred_streams_on_one_connection(site: Site, channel: str) -> None:
    """An event reaches each of 100 streams of one HTTP/2 connection."""
    with Http2(site.url) as client:
        numbers = opened(client, channel, STREAMS)
        site.publish_through_worker("hello", channel)
        client.until(
            lambda: all(b"data: hello\n" in client.bodies[each] for each in numbers), "the event"
        )

        assert list(client.statuses.values()) == [200] * STREAMS
        assert client.ended == set()


def test_a_connection_leaves(site: Site, channel: str) -> None:
    """When a client with 100 streams closes its connection, all are noticed within a second."""

    def leave() -> None:
        with Http2(site.url) as client:
            opened(client, channel, STREAMS)
            site.wait_streams(STREAMS)

    assert_noticed_within_a_second(leave, site.wait_streams)


def test_one_stream_leaves(site: Site, channel: str) -> None:
    """A stream that its client resets is noticed within a second; its neighbour goes on."""
    with Http2(site.url) as client:
        (staying,) = opened(client, channel, 1)
        assert_noticed_within_a_second(
            lambda: client.leave(*opened(client, channel, 1)), site.wait_streams, left=1
        )
        site.publish_through_worker("hello", channel)

        client.until(lambda: b"data: hello\n" in client.bodies[staying], "the event")


def test_a_slow_stream_is_cut_alone(site: Site, channel: str) -> None:
    """A stream that is not read is cut, and ends for its client; its neighbour gets everything."""
    with Http2(site.url) as client:
        slow, neighbour = opened(client, channel, 2)
        client.unread.add(slow)
        for number in range(MOST_EVENTS):
            site.publisher.publish(f"{number} {'x' * EVENT_BYTES}", channel=channel)
            end = b"data: %d " % number + b"x" * EVENT_BYTES + b"\n"
            client.until(lambda end=end: end in client.bodies[neighbour], "the event")  # type: ignore[misc]
            if site.stats()["streams"] == 1:
                break

        assert site.stats()["ended"]["slow"] == 1
        # hypercorn resets it at once; granian ends it behind what waits in granian.
        client.read_on(slow)
        client.until(lambda: slow in client.ended, "the end of the slow stream")
        assert neighbour not in client.ended


def test_goodbye(site: Site, channel: str) -> None:
    """A stream of an ended channel ends, and the connection goes on for others."""
    with Http2(site.url) as client:
        (ending,) = opened(client, channel, 1)
        site.publisher.end(channel)
        client.until(lambda: ending in client.ended, "the end of the stream")

        assert b"event: stream-end\n" in client.bodies[ending]
        opened(client, f"{channel}-other", 1)
