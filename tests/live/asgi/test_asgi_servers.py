"""Streams on real ASGI servers: two threads for requests, and streams on the server's loop."""

from __future__ import annotations

import json
from contextlib import ExitStack

from harness.process import threads
from harness.streams import Crowd, Reader, get, post
from harness.waiting import wait_until
from harness.wire import Wire
from live.claims import (
    assert_answers_at_once,
    assert_breaking_off_is_noticed,
    assert_each_gets_an_event_once,
    assert_head_and_first_byte,
    assert_head_opens_no_stream,
    assert_leaving_is_noticed,
    assert_session_cookie,
    come_and_go,
)
from live.site import Site

# uvicorn is the one that most people have: it gets more.
STREAMS = {"uvicorn": 500}
FEWER_STREAMS = 200

# What the kernel's buffers of one connection may hold, and more.
MOST_UNREAD_BYTES = 60_000_000
EVENT_BYTES = 500_000


def streams_on(site: Site) -> int:
    return STREAMS.get(site.server.kind, FEWER_STREAMS)


def test_two_threads_answer_beside_hundreds_of_streams(site: Site, channel: str) -> None:
    """With 200 streams (500 on uvicorn) on two threads, requests are answered within 0.5 s."""
    count = streams_on(site)
    with Crowd(site.stream_url(channel), count) as crowd:
        crowd.wait_opened(count, within_s=30)
        site.wait_streams(count)

        assert_answers_at_once(site)
        assert crowd.ended == 0


def test_one_event_reaches_each_once(site: Site, channel: str) -> None:
    """An event that a view publishes reaches each of hundreds of streams once."""
    assert_each_gets_an_event_once(site, channel, streams_on(site))


def test_no_connection_of_the_pool_is_held(site: Site, channel: str) -> None:
    """With 100 open streams, each opened by a request that queried, none holds a connection."""
    with Crowd(site.stream_url(channel), 100) as crowd:
        crowd.wait_opened(100, within_s=30)
        site.wait_streams(100)

        # The last stream may be open a moment before the request that opened it is over.
        wait_until(lambda: site.stats()["checked_out"] == 0, what="a pool that is not in use")


def test_resuming(site: Site, channel: str) -> None:
    """A client that comes back with its last event ID gets what it missed, and then goes on."""
    with site.read(channel) as reader:
        site.publisher.publish("seen", channel=channel)
        seen = reader.next_event()["id"]
    for data in ("missed", "missed too"):
        site.publisher.publish(data, channel=channel)
    with site.read(channel, headers={"Last-Event-ID": seen}) as reader:
        site.publish_through_worker("live", channel)

        assert [reader.next_event()["data"] for _ in range(3)] == ["missed", "missed too", "live"]


def test_a_leaving_client_is_noticed(site: Site, channel: str) -> None:
    """A client that leaves is noticed within a second although nothing is sent to it."""
    assert_leaving_is_noticed(site, channel)


def test_a_client_that_breaks_off_is_noticed(site: Site, channel: str) -> None:
    """A client whose connection is reset is noticed within a second too."""
    assert_breaking_off_is_noticed(site, channel)


def test_a_slow_reader_is_cut(site: Site, channel: str) -> None:
    """A client that reads nothing is cut before much waits for it; its neighbour gets it all."""
    ended = site.stats()["ended"].get("slow", 0)
    published = 0
    with site.read(channel), site.read(channel) as neighbour:
        while site.stats()["ended"].get("slow", 0) == ended:
            assert published * EVENT_BYTES < MOST_UNREAD_BYTES
            site.publisher.publish(f"{published} {'x' * EVENT_BYTES}", channel=channel)
            assert neighbour.next_event()["data"].startswith(f"{published} ")
            published += 1

        site.publisher.publish("and on it goes", channel=channel)
        assert neighbour.next_event()["data"] == "and on it goes"
        site.wait_streams(1)


def test_session_cookie(site: Site, channel: str) -> None:
    """What the stream's request puts into the session is there in the client's next request."""
    assert_session_cookie(site, channel)


def test_headers(site: Site, channel: str) -> None:
    """A stream has its own headers and what `after_request` sets, and opens at once."""
    with site.read(channel) as reader:
        assert_head_and_first_byte(reader)
        assert reader.headers["x-worker"] == str(site.ping())


def test_head_opens_no_stream(site: Site, channel: str) -> None:
    """HEAD is answered 200 without a body, and no stream is opened for it."""
    assert_head_opens_no_stream(site, channel)


def test_an_ended_channel_is_204(site: Site, channel: str) -> None:
    """A reader of an ended channel gets `stream-end` and the end, and 204 when it comes back."""
    with site.read(channel) as reader:
        wait_until(lambda: reader.comments, what="an open stream")
        site.publisher.end(channel)
        event = reader.next_event()
        reader.wait_end()

        assert (event["type"], json.loads(event["data"])) == ("stream-end", {"channels": [channel]})
        assert reader.complete
    with site.read(channel, headers={"Last-Event-ID": event["id"]}) as reader:
        assert reader.status == 204


def test_bodies_that_do_not_come_hold_no_thread(site: Site) -> None:
    """Beside twenty clients that announce a body and send none, two threads answer the others."""
    with ExitStack() as stack:
        for _ in range(20):
            wire = stack.enter_context(Wire(site.url))
            wire.send("POST /count HTTP/1.1", "Host: localhost", "Content-Length: 9", "")
        assert_answers_at_once(site)

        wire.send("12345678")  # and the line's end: one byte too many, which is nobody's
        wire.read_until(b"counted 9")


def test_large_bodies_arrive(site: Site) -> None:
    """A body that does not lie in memory arrives whole, announced or in chunks."""
    body = "x" * 300_000

    assert post(f"{site.url}/count", body.encode()).text == "counted 300000"
    with Wire(site.url) as wire:
        wire.send("POST /count HTTP/1.1", "Host: localhost", "Transfer-Encoding: chunked", "")
        wire.send(f"{len(body):x}", body, "0", "")
        wire.read_until(b"counted 300000")


def test_ambiguous_headers_are_dropped(site: Site) -> None:
    """A header with an underscore, which a proxy lets pass, stands for none without."""
    with Wire(site.url) as wire:
        wire.send("GET /headers HTTP/1.1", "Host: localhost", "X_Forwarded_User: admin")
        wire.send("X-Other: kept", "Connection: close", "")
        answer = wire.read_until(b"}").lower()

    assert b"kept" in answer
    assert b"admin" not in answer


def test_other_answers_pass(site: Site, channel: str) -> None:
    """POST to a stream is 405, a path that is not there 404, a bad channel 400."""
    assert post(site.stream_url(channel)).status == 405
    assert get(f"{site.url}/nothing-here").status == 404
    assert get(site.stream_url("a" * 1000)).status == 400


def test_a_generator(site: Site) -> None:
    """Two clients of a view that counts for ever each get 1 to 6; requests are answered."""
    with ExitStack() as stack:
        readers = [stack.enter_context(Reader(f"{site.url}/numbers")) for _ in range(2)]

        for reader in readers:
            assert [reader.next_event()["data"] for _ in range(6)] == list("123456")
        assert_answers_at_once(site)
    site.wait_streams(0)


def test_a_generator_that_ends(site: Site) -> None:
    """The stream of an iterable that is exhausted ends as HTTP says that a response ends."""
    with Reader(f"{site.url}/three") as reader:
        reader.wait_end()

        assert [event["data"] for event in reader.take_events()] == ["1", "2", "3"]
        assert reader.complete


def test_many_rounds_leave_nothing(site: Site, channel: str) -> None:
    """After 200 clients came and left, half of them at once, no thread is left over."""
    with site.read(channel) as stays:
        site.ping()
        with Reader(f"{site.url}/numbers") as reader:
            reader.next_event()
        site.wait_streams(1)
        pid = site.ping()
        # One request after the other may have needed one of the two threads so far.
        most = threads(pid) + 2
        for _ in range(100):
            come_and_go(site.stream_url(channel))
            with Wire(site.url) as wire:
                wire.request(site.stream_url(channel))
                wire.reset()  # before any answer
        site.wait_streams(1)

        wait_until(lambda: threads(pid) <= most, what=f"no more than {most} threads")
        assert not stays.ended
