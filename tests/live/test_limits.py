"""What is scarce, and how the worker stays well without it: descriptors, and threads."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from harness.servers import KINDS
from harness.streams import Crowd, Reader, get, post
from harness.waiting import wait_until
from harness.wire import Wire
from live.claims import (
    OPEN_FILES,
    assert_one_address_has_so_many,
    assert_streams_beyond_are_sent_away,
)
from live.site import HOLDS_THREADS, Site

Launch = Callable[..., Site]

# A reload or stop waits for threads that streams hold, for half a minute by default.
EIGHT_THREADS = ["--threads", "8", "--graceful-timeout", "1"]


def assert_sent_away(reader: Reader) -> None:
    """The client is told to come back later: 200, a retry, and the end."""
    reader.wait_end()

    assert reader.status == 200
    assert reader.raw.startswith(b"retry: ")


@pytest.mark.parametrize("kind", KINDS)
def test_more_streams_than_descriptors(kind: str, launch: Launch, channel: str) -> None:
    """Streams for which no descriptor is left are sent away with 200; the others go on."""
    site = launch(kind, OPEN_FILES=OPEN_FILES, SSE_HEARTBEAT_S=0.4)
    assert_streams_beyond_are_sent_away(site, channel)


#: A low limit, of which gthread may have half for connections of its own, and how many come.
FEW_FILES = 256
IDLE = 90


def test_idle_connections_beside_all_streams(launch: Launch, channel: str) -> None:
    """At the automatic limit of streams, 90 idle clients end neither worker nor stream.

    gthread ends where accept() finds no descriptor.
    """
    site = launch(
        "gunicorn-gthread", options=["--threads", "8", "--keep-alive", "60"], OPEN_FILES=FEW_FILES
    )
    worker = site.worker
    with ExitStack() as stack:
        streams = FEW_FILES // 2
        crowd = stack.enter_context(Crowd(site.stream_url(channel), streams))
        crowd.wait_opened(streams, within_s=30)
        assert_sent_away(stack.enter_context(site.read(channel)))
        for _ in range(IDLE):
            wire = stack.enter_context(Wire(site.url))
            wire.request(f"{site.url}/ping")
            wire.read_until(b"pong")
        site.publish_through_worker("hello", channel)
        crowd.wait_events(1, within_s=20)

        assert crowd.ended == 0
        assert site.worker == worker


# Each step of opening a stream needs one or two descriptors more; the first stream of a process
# needs a dozen. The server itself needs some for a request, and gthread, which closes connections
# late, a few more: a worker that has none for accept() ends.
@pytest.mark.parametrize("streams_before", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_no_descriptor_left(kind: str, streams_before: int, launch: Launch, channel: str) -> None:
    """Where descriptors run out half-way, a stream is sent away or opens; the worker lives on."""
    site = launch(kind, starved=True, FILL_UP_TO=100, SSE_MAX_STREAMS=1000)
    worker = site.worker
    for _ in range(streams_before):
        with site.read(channel) as reader:
            wait_until(lambda: reader.comments, what="an open stream")
    for free in range(6 if kind == "gunicorn-gthread" else 2, 20):
        post(f"{site.url}/fill?free={free}")
        with site.read(channel) as reader:
            assert reader.status == 200
            wait_until(lambda: reader.retry, what="a retry")
        post(f"{site.url}/give-back")
    with site.read(channel) as reader:
        site.publish_through_worker("again", channel)

        assert reader.next_event()["data"] == "again"
    assert site.worker == worker


@pytest.mark.parametrize("kind", KINDS)
def test_without_the_hand_off(kind: str, launch: Launch, channel: str) -> None:
    """With SSE_HANDOFF=off a stream brings events, and the log says once what each one costs."""
    site = launch(kind, SSE_HANDOFF="off", SSE_STREAM_LIFETIME_S=1, SSE_HEARTBEAT_S=0.4)
    for number in range(2):
        with site.read(channel) as reader:
            site.publisher.publish(f"event {number}", channel=channel)

            assert reader.next_event()["data"] == f"event {number}"
            reader.wait_end()
            assert reader.complete
    lines = [line for line in site.server.log().splitlines() if HOLDS_THREADS in line]

    assert len(lines) == 1
    assert ("gunicorn/" if kind.startswith("gunicorn") else "Werkzeug/") in lines[0]


def test_threads_are_left_for_others(launch: Launch, channel: str) -> None:
    """Of eight threads at most four hold streams; further ones are sent away, requests answered."""
    site = launch("gunicorn-gthread", options=EIGHT_THREADS, SSE_HANDOFF="off")
    with ExitStack() as stack:
        readers = [stack.enter_context(site.read(channel)) for _ in range(4)]
        for _ in range(6):
            assert_sent_away(stack.enter_context(site.read(channel)))

        assert get(f"{site.url}/ping").status == 200
        site.publish_through_worker("hello", channel)
        assert [reader.next_event()["data"] for reader in readers] == ["hello"] * 4


def test_threads_are_given_back(launch: Launch, channel: str) -> None:
    """Where four streams hold threads and their clients leave, four others find room."""
    site = launch("gunicorn-gthread", options=EIGHT_THREADS, SSE_HANDOFF="off", SSE_HEARTBEAT_S=0.1)
    for _ in range(3):
        with ExitStack() as stack:
            readers = [stack.enter_context(site.read(channel)) for _ in range(4)]
            site.publish_through_worker("hello", channel)

            assert [reader.next_event()["data"] for reader in readers] == ["hello"] * 4
        site.wait_streams(0)


def test_the_only_thread_is_given_back(launch: Launch, channel: str) -> None:
    """A stream that holds a server's only thread ends by itself; then requests are answered."""
    site = launch("gunicorn-sync", SSE_HANDOFF="off", SSE_STREAM_LIFETIME_S=1, SSE_HEARTBEAT_S=0.5)
    with site.read(channel) as reader:
        reader.wait_end()

        assert reader.complete
    assert get(f"{site.url}/ping").status == 200


def test_long_names_fit_into_gunicorns_request_line(launch: Launch) -> None:
    """Of the longest names 19 fit into the request line that gunicorn takes, as the docs say."""
    site = launch("gunicorn-sync")
    names = [f"{number:02}".ljust(200, "x") for number in range(20)]
    with site.read(*names[:19]) as reader:
        assert reader.status == 200
    with site.read(*names) as reader:
        assert reader.status == 414


@pytest.mark.parametrize("kind", KINDS)
def test_streams_of_one_address(kind: str, launch: Launch, channel: str) -> None:
    """An address has so many streams as it may, and another address is served."""
    site = launch(kind, SSE_MAX_STREAMS_PER_ADDRESS=2)
    assert_one_address_has_so_many(site, channel, 2)


def test_streams_of_one_address_that_hold_threads(launch: Launch, channel: str) -> None:
    """The same where each stream holds a thread."""
    site = launch(
        "gunicorn-gthread",
        options=EIGHT_THREADS,
        SSE_HANDOFF="off",
        SSE_HEARTBEAT_S=0.1,
        SSE_MAX_STREAMS_PER_ADDRESS=2,
    )
    assert_one_address_has_so_many(site, channel, 2)


def test_ten_thousand_streams_of_one_address(launch: Launch, channel: str) -> None:
    """Of 10,000 streams of one address 20 stay, the others shall come back; others are served."""
    site = launch("gunicorn-sync", SSE_MAX_STREAMS_PER_ADDRESS=20)
    with Crowd(site.stream_url(channel), 10_000) as crowd:
        crowd.wait_opened(100, within_s=60)
        with site.read(channel, source="127.0.0.2") as other:
            wait_until(lambda: other.comments, what="an open stream")
            crowd.wait_ended(9_980, within_s=100)
            site.publisher.publish("hello", channel=channel)

            assert other.next_event()["data"] == "hello"
            assert crowd.refused == {}
            assert site.stats()["streams"] == 21
            assert site.stats()["refused"] == {"address": 9_980}
    assert site.server.log().count("SSE_MAX_STREAMS_PER_ADDRESS") == 1
