"""What HTTP asks of a stream: its head, its methods, its connection, and the log line about it."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from harness.servers import KINDS
from harness.streams import get, post
from harness.waiting import wait_until
from harness.wire import Wire, request_line
from live.claims import (
    assert_head_and_first_byte,
    assert_head_opens_no_stream,
    assert_no_chunks_in_http_1_0,
    assert_session_cookie,
)
from live.site import Site, run_site


@pytest.fixture(scope="module", params=KINDS)
def wrapped_site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """The application behind WSGI middleware."""
    with run_site(request.param, tmp_path_factory.mktemp("site"), app="wrapped:app") as site:
        yield site


def test_head_and_first_byte(site: Site, channel: str) -> None:
    """A stream opens at once with the headers of an event stream, a retry and a comment."""
    with site.read(channel) as reader:
        assert_head_and_first_byte(reader)


def test_session_cookie(site: Site, channel: str) -> None:
    """What the stream's request puts into the session is there in the client's next request."""
    assert_session_cookie(site, channel)


def test_after_request_headers(site: Site, channel: str) -> None:
    """A header that `after_request` sets arrives with the stream."""
    with site.read(channel) as reader:
        assert reader.headers["x-worker"] == str(site.worker)


def test_middleware_headers(wrapped_site: Site, channel: str) -> None:
    """A header that WSGI middleware adds arrives, through other middleware that generates."""
    with wrapped_site.read(channel) as reader:
        assert reader.headers["x-middleware"] == "was here"


def test_events_pass_by_middleware(wrapped_site: Site, channel: str) -> None:
    """Events reach a stream that was opened through middleware that is a generator."""
    with wrapped_site.read(channel) as reader:
        wrapped_site.publish_through_worker("hello", channel)

        assert reader.next_event()["data"] == "hello"


def test_head_opens_no_stream(site: Site, channel: str) -> None:
    """HEAD is answered 200 without a body, and no stream is opened for it."""
    assert_head_opens_no_stream(site, channel)


def test_http_1_0(site: Site, channel: str) -> None:
    """A client that speaks HTTP/1.0 gets its events, without chunks."""
    assert_no_chunks_in_http_1_0(site, channel)


def test_post_is_not_allowed(site: Site, channel: str) -> None:
    """POST to a stream is answered 405."""
    assert post(site.stream_url(channel)).status == 405


def test_other_paths_are_untouched(site: Site) -> None:
    """A path that the application does not have is still 404."""
    assert get(f"{site.url}/stream/nothing-here").status == 404


def test_two_channels(site: Site, channel: str) -> None:
    """`?channel=a&channel=b` brings the events of both, in the order of publishing, no others."""
    with site.read(f"{channel}-a", f"{channel}-b") as reader:
        for name in "acba":
            site.publisher.publish(name, channel=f"{channel}-{name}")

        assert [reader.next_event()["data"] for _ in range(3)] == ["a", "b", "a"]


def test_one_line_in_the_access_log(site: Site, channel: str) -> None:
    """Each stream makes one line with status 200 in the server's access log."""
    with site.read(channel), site.read(channel):
        site.wait_streams(2)
    path = urlsplit(site.stream_url(channel))

    def lines() -> list[str]:
        return [line for line in site.server.log().splitlines() if path.query in line]

    wait_until(lambda: len(lines()) >= 2, what="two lines in the access log")

    asked = f'"GET {path.path}?{path.query} HTTP/1.1" 200'
    assert [asked in line for line in lines()] == [True] * 2


# Werkzeug closes the connection after each response.
@pytest.mark.parametrize("shared_site", ["gunicorn-gthread", "gunicorn-gevent"], indirect=True)
def test_a_connection_used_before(site: Site, channel: str) -> None:
    """A connection that served an ordinary request can become a stream."""
    url = site.stream_url(channel)
    with Wire(url) as wire:
        wire.request(f"{site.url}/ping")
        wire.read_until(b"pong")
        wire.request(url)
        wire.read_until(b":\n")
        site.publish_through_worker("hello", channel)

        assert b"data: hello" in wire.read_until(b"data: hello")


def pipelined(site: Site, channel: str) -> bytes:
    """What a client gets that sends a second request right behind that for a stream."""
    url = site.stream_url(channel)
    second = request_line(f"{site.url}/ping?behind={channel}")
    with Wire(url) as wire:
        wire.send(request_line(url), "Host: localhost", "", second, "Host: localhost", "")
        wire.read_until(b":\n")
        site.publish_through_worker("first", channel)
        wire.read_until(b"data: first")
        site.publish_through_worker("second", channel)
        return wire.read_until(b"data: second").partition(b"\r\n\r\n")[2]


def test_a_pipelined_request_stays_out(site: Site, channel: str) -> None:
    """A second request that a client sends behind a stream's is not answered inside the stream."""
    assert b"HTTP/1.1" not in pipelined(site, channel)
    assert f"behind={channel}" not in site.server.log()


def test_a_pipelined_request_stays_out_behind_middleware(wrapped_site: Site, channel: str) -> None:
    """The same where middleware hides the server's response object from the stream."""
    assert b"HTTP/1.1" not in pipelined(wrapped_site, channel)
