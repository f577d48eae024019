"""What holds on every WSGI server that hands its streams off, each of them really running."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.process import descriptors
from harness.streams import Crowd, Reader, get
from harness.waiting import wait_until
from harness.wire import Wire, request_line
from live.claims import (
    assert_answers_at_once,
    assert_each_gets_an_event_once,
    assert_leaving_is_noticed,
    assert_no_chunks_in_http_1_0,
    come_and_go,
)
from live.servers.kinds import HANDED_OFF, LIVE, Kind
from live.servers.matrix import HANDS_OFF, table
from live.site import Site

#: eventlet tells applications HTTP/1.0, whatever the client speaks.
HTTP_1_1 = [name for name, kind in HANDED_OFF.items() if not kind.kind.startswith("eventlet")]

STREAMS = 100
ROUNDS = 50


def test_100_streams_leave_the_threads_free(site: Site, channel: str) -> None:
    """With 100 streams on one or two threads requests are answered, and each gets an event once."""
    with Crowd(site.stream_url(channel), STREAMS) as crowd:
        crowd.wait_opened(STREAMS, within_s=30)
        assert_answers_at_once(site)
        assert crowd.ended == 0
    site.wait_streams(0)
    assert_each_gets_an_event_once(site, channel, STREAMS)


def test_a_leaving_client_is_noticed(site: Site, channel: str) -> None:
    """A client that leaves is noticed within a second although nothing is sent to it."""
    assert_leaving_is_noticed(site, channel)


def test_no_descriptor_stays(site: Site, channel: str) -> None:
    """After 50 clients came and left, the process has no descriptor more than before."""
    pid = int(site.stats()["pid"])
    # A stream that stays keeps the hub and its reading side at work, before and after.
    with site.read(channel) as stays:
        come_and_go(site.stream_url(channel))
        site.wait_streams(1)
        before = descriptors(pid)
        for _ in range(ROUNDS):
            come_and_go(site.stream_url(channel))
        site.wait_streams(1)

        wait_until(lambda: descriptors(pid) <= before, what=f"no more than {before} descriptors")
        assert not stays.ended


def test_cookies_and_headers_arrive(site: Site, channel: str) -> None:
    """The session's cookie and a header of `after_request` come with the stream."""
    with Reader(f"{site.stream_url(channel)}&name=Ada") as reader:
        cookie = reader.headers["set-cookie"].split(";")[0]

        assert reader.headers["x-worker"] == str(site.stats()["pid"])
    assert get(f"{site.url}/whoami", headers={"Cookie": cookie}).text == "Ada"


@pytest.mark.parametrize("shared_site", HTTP_1_1, indirect=True, scope="module")
def test_http_1_1_is_answered_in_chunks(site: Site, channel: str) -> None:
    """A client that speaks HTTP/1.1 gets each event as a chunk."""
    with site.read(channel) as reader:
        assert reader.headers.get("transfer-encoding") == "chunked"
        assert reader.headers["connection"] == "close"


def test_http_1_0_is_answered_without(site: Site, channel: str) -> None:
    """A client that speaks HTTP/1.0 gets its events without chunks."""
    assert_no_chunks_in_http_1_0(site, channel)


def test_a_pipelined_request_stays_out(site: Site, channel: str) -> None:
    """A second request that a client sends behind a stream's is not answered inside the stream."""
    url = site.stream_url(channel)
    opened = site.stats()["opened"]
    with Wire(url) as wire:
        second = request_line(site.stream_url(channel))
        wire.send(request_line(url), "Host: localhost", "", second, "Host: localhost", "")
        wire.read_until(b":\n")
        site.publish_through_worker("hello", channel)
        body = wire.read_until(b"data: hello").partition(b"\r\n\r\n")[2]

        site.wait_streams(1)

        assert b"HTTP/1.1" not in body
        assert site.stats()["opened"] == opened + 1


KINDS = {**{name: Kind(kind) for name, kind in LIVE.items()}, **HANDED_OFF}


@pytest.mark.parametrize("name", KINDS)
def test_streams_end_at_sigterm(name: str, launch: Callable[..., Site], channel: str) -> None:
    """At SIGTERM no server waits for a stream; it says goodbye where the reference says so."""
    site = launch(KINDS[name])
    with site.read(channel) as reader:
        wait_until(lambda: reader.comments, what="an open stream")

        assert site.server.stop()
        reader.wait_end()
        # The first one opened the stream.
        said_goodbye = reader.raw.count(b"retry: ") == 2
    *_, at_sigterm = table(HANDS_OFF)[name]

    said = "goodbye, then the end" if said_goodbye else "the end"
    # uWSGI's router and its worker die at the same time: either may be first.
    assert at_sigterm in (said, "the end, or a goodbye before it")


def test_the_router_of_uwsgi_keeps_connections(launch: Callable[..., Site], channel: str) -> None:
    """Behind `--http-keepalive` a client that left is noticed with the next heartbeat or two."""
    kind = Kind("uwsgi-http", ("--http-keepalive", "--http-auto-chunked"))
    site = launch(kind, SSE_HEARTBEAT_S=0.3)
    with site.read(channel) as reader:
        site.publish_through_worker("hello", channel)

        assert reader.next_event()["data"] == "hello"
    site.wait_streams(0)
