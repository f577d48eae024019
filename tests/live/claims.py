"""What is claimed of servers of several families: the steps that the tests of each take."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median

from harness.streams import Crowd, Reader, get
from harness.waiting import wait_until
from harness.wire import Wire, request_line
from live.calm import assert_calm
from live.site import Site

__all__ = [
    "OPEN_FILES",
    "assert_answers_at_once",
    "assert_breaking_off_is_noticed",
    "assert_each_gets_an_event_once",
    "assert_head_and_first_byte",
    "assert_head_opens_no_stream",
    "assert_leaving_is_noticed",
    "assert_no_chunks_in_http_1_0",
    "assert_noticed_within_a_second",
    "assert_one_address_has_so_many",
    "assert_session_cookie",
    "assert_streams_beyond_are_sent_away",
    "break_off",
    "come_and_go",
]

OPENED_WITHIN_S = 30

# A busy machine delays some of them; most show what the product takes.
ROUNDS = 5

# A worker keeps a hundred descriptors for other things than streams.
OPEN_FILES = 140
ROOM = 40
# Not many more: gthread closes late what it sent away, and ends where accept() finds nothing left.
# And not all at once: a server has several descriptors for each request that is under way.
WAVES = 9
IN_WAVE = 10
TRIED = WAVES * IN_WAVE


def assert_answers_at_once(site: Site) -> None:
    """Ordinary requests are usually answered within half a second, and always in five."""
    times_s = site.ping_times_s(20)

    # Where streams held the threads, no request would be answered at all.
    assert median(times_s) < 0.5
    assert max(times_s) < 5


def assert_each_gets_an_event_once(site: Site, channel: str, count: int) -> None:
    """An event that a view publishes reaches each of `count` streams once."""
    with Crowd(site.stream_url(channel), count) as crowd:
        crowd.wait_opened(count, within_s=OPENED_WITHIN_S)
        site.publish_through_worker("hello", channel)
        # A second copy of the first event would come before this one.
        site.publish_through_worker("end", channel)
        crowd.wait_events(2, within_s=20)

        assert {tuple(crowd.data_of(i)) for i in range(count)} == {("hello", "end")}


def come_and_go(url: str) -> None:
    """Leave as soon as the head is there."""
    with Reader(url) as reader:
        assert reader.status == 200


def break_off(url: str) -> None:
    """Leave by RST as soon as the stream is open."""
    with Wire(url) as wire:
        wire.request(url)
        wire.read_until(b":\n")
        wire.reset()


def assert_noticed_within_a_second(
    leave: Callable[[], None], wait_streams: Callable[[int], None], *, left: int = 0
) -> None:
    """After `leave`, `wait_streams(left)` takes less than a second, beside what asking takes."""
    beyond_s = []
    for _ in range(ROUNDS):
        leave()
        began = time.monotonic()
        # Not the next heartbeat either, which by default comes after 15 s.
        wait_streams(left)
        noticed = time.monotonic()
        wait_streams(left)  # what one question takes now
        beyond_s.append(noticed - began - (time.monotonic() - noticed))

    assert median(beyond_s) < 1, beyond_s


def assert_leaving_is_noticed(site: Site, channel: str) -> None:
    """A client that leaves is noticed within a second although nothing is sent to it."""

    def leave() -> None:
        with site.read(channel) as reader:
            wait_until(lambda: reader.comments, what="an open stream")
            site.wait_streams(1)

    assert_noticed_within_a_second(leave, site.wait_streams)


def assert_breaking_off_is_noticed(site: Site, channel: str) -> None:
    """A client whose connection is reset is noticed within a second too."""
    assert_noticed_within_a_second(lambda: break_off(site.stream_url(channel)), site.wait_streams)


def assert_session_cookie(site: Site, channel: str) -> None:
    """What the stream's request puts into the session is there in the client's next request."""
    with Reader(f"{site.stream_url(channel)}&name=Ada") as reader:
        cookie = reader.headers["set-cookie"].split(";")[0]

    assert get(f"{site.url}/whoami", headers={"Cookie": cookie}).text == "Ada"


def assert_head_and_first_byte(reader: Reader) -> None:
    """A stream opens at once with the headers of an event stream, a retry and a comment."""
    wait_until(lambda: reader.comments, what="the first comment")

    assert reader.status == 200
    assert reader.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reader.headers["cache-control"] == "no-store, no-transform"
    assert reader.headers["x-content-type-options"] == "nosniff"
    assert reader.headers["x-accel-buffering"] == "no"
    assert reader.raw == b"retry: 500\n:\n"


def assert_head_opens_no_stream(site: Site, channel: str) -> None:
    """HEAD is answered 200 without a body, and no stream is opened for it."""
    opened = site.stats()["opened"]
    url = site.stream_url(channel)
    with Wire(url) as wire:
        wire.send(request_line(url, "HEAD"), "Host: localhost", "Connection: close", "")
        head, _, body = wire.read_to_end().partition(b"\r\n\r\n")

    assert head.split()[1] == b"200"
    assert b"text/event-stream" in head
    assert body == b""
    assert site.stats()["opened"] == opened


def assert_no_chunks_in_http_1_0(site: Site, channel: str) -> None:
    """A client that speaks HTTP/1.0 gets its events, without chunks."""
    url = site.stream_url(channel)
    with Wire(url) as wire:
        wire.request(url, version="HTTP/1.0")
        wire.read_until(b":\n")
        site.publish_through_worker("hello", channel)
        head, _, body = wire.read_until(b"data: hello").partition(b"\r\n\r\n")

        assert b"transfer-encoding" not in head.lower()
        assert body.startswith(b"retry: 500\n:\ndata: hello")


def assert_streams_beyond_are_sent_away(site: Site, channel: str) -> None:
    """Of streams of a process with OPEN_FILES descriptors those beyond are sent away with 200.

    The others go on, the process stays calm, and it says once in its log what to do.
    """
    worker = site.ping()
    with site.read(channel) as reader, ExitStack() as stack:
        wait_until(lambda: reader.comments, what="the first of the streams")
        crowds = []
        for _ in range(WAVES):
            crowd = stack.enter_context(Crowd(site.stream_url(channel), IN_WAVE))
            crowd.wait_opened(IN_WAVE, within_s=OPENED_WITHIN_S)
            crowds.append(crowd)
        wait_until(
            lambda: sum(crowd.ended for crowd in crowds) == TRIED - ROOM + 1,
            within_s=20,
            what="the end of all streams beyond",
        )

        assert_calm(worker, reader)
        site.wait_streams(ROOM)
        site.publish_through_worker("hello", channel)
        wait_until(
            lambda: (
                [crowd.data_of(i) for crowd in crowds for i in range(IN_WAVE)].count(["hello"])
                == ROOM - 1
            ),
            what="the event on each open stream",
        )
    site.wait_streams(0)
    with site.read(channel) as reader:
        site.publish_through_worker("again", channel)

        assert reader.next_event()["data"] == "again"
    assert site.ping() == worker
    (line,) = [line for line in site.server.log().splitlines() if "stream was sent away" in line]
    # Some that came meanwhile may be open before the first that is sent away.
    assert re.search(
        r"\d+ are open, all that the limit on open files allows: raise ulimit -n", line
    )


def assert_one_address_has_so_many(site: Site, channel: str, most: int) -> None:
    """An address has so many streams, further ones are sent away, and another address is served.

    Who leaves makes room; the log says once how to allow more.
    """
    with ExitStack() as stack:
        readers = [stack.enter_context(site.read(channel)) for _ in range(most)]
        other = stack.enter_context(site.read(channel, source="127.0.0.2"))
        for reader in (*readers, other):
            wait_until(lambda r=reader: r.comments, what="an open stream")  # type: ignore[misc]
        for _ in range(2):
            with site.read(channel) as beyond:
                beyond.wait_end()

                assert beyond.status == 200
                assert beyond.raw.startswith(b"retry: ")
        readers.pop().close()
        site.wait_streams(most)
        readers.append(stack.enter_context(site.read(channel)))
        wait_until(lambda: readers[-1].comments, what="another stream")
        site.publish_through_worker("hello", channel)

        assert [r.next_event()["data"] for r in (*readers, other)] == ["hello"] * (most + 1)
    assert site.stats()["refused"] == {"address": 2}
    assert site.server.log().count("SSE_MAX_STREAMS_PER_ADDRESS") == 1
