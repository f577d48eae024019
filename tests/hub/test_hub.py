"""The hub, on the loops that it runs on, with socket pairs as clients."""

from __future__ import annotations

import _socket
import asyncio
import itertools
import os
import socket
from collections.abc import Callable, Collection, Coroutine
from typing import Any, ClassVar

import pytest

from flask_eventstream.errors import EndReason
from flask_eventstream.event import Event
from flask_eventstream.hub.admission import Refusal
from flask_eventstream.hub.adoption import Adoption
from flask_eventstream.hub.feed import FEED_FAILED, FEED_OPEN
from flask_eventstream.hub.hub import Hub, Stats
from flask_eventstream.hub.observer import Unobserved
from flask_eventstream.hub.request import Reader, StreamRequest
from flask_eventstream.log.entries import Entry
from harness.event_stream import EventStreamParser
from harness.http_response import HttpResponse
from harness.stage import LOOPS, Client, Clock, Stage, perform, until

Play = Callable[[Callable[[Stage], Coroutine[Any, Any, None]]], None]

PREAMBLE = b"retry: 3000\n:\n"
HEAD = b"HTTP/1.1 200 OK\r\nServer: made-by-hand\r\nContent-Length: 0\r\n\r\n"
# More than a socket pair's kernel buffer takes where the client has a small one.
LARGE = "x" * 400_000
SMALL_BUFFER_BYTES = 4096


@pytest.fixture(params=LOOPS)
def play(request: pytest.FixtureRequest) -> Play:
    """Run a scenario on each kind of loop."""
    return lambda scenario: perform(LOOPS[request.param], scenario)


@pytest.fixture
def play_in_no_time() -> Play:
    """Run a scenario on a loop whose clock jumps: for claims about seconds."""
    return lambda scenario: perform(Clock, scenario)


def a_head() -> tuple[socket.socket, _socket.socket]:
    """Where a server writes its head, and the sink that the hub reads it from."""
    server, sink = socket.socketpair()
    raw = _socket.socket(fileno=sink.detach())
    raw.settimeout(0)
    return server, raw


async def counted(hub: Hub, ended: dict[str, int]) -> None:
    """Wait for these ends: a client may hear of one before the hub does, which owns the socket."""
    await until(lambda: hub.stats().ended == ended, what=f"the ends {ended}")


# ---- opening


def test_a_stream_opens_with_retry_and_a_first_byte(play: Play) -> None:
    """A fresh stream begins with the retry line and a comment, and no blank line."""

    async def scenario(stage: Stage) -> None:
        client = await stage.opened(stage.hub())

        assert client.raw == PREAMBLE

    play(scenario)


def test_padding_comes_first(play: Play) -> None:
    """Padding is a comment of the size that was asked for, before everything else."""

    async def scenario(stage: Stage) -> None:
        client = await stage.opened(stage.hub(), padding_bytes=2048)

        assert client.raw == b":" + b" " * 2046 + b"\n" + PREAMBLE

    play(scenario)


def test_the_servers_head_is_relayed(play: Play) -> None:
    """The head that the server wrote comes first, in pieces or not, framed by the end."""

    async def scenario(stage: Stage) -> None:
        server, sink = a_head()
        client = stage.client(stage.hub(), head_pair=sink)
        for start in range(0, len(HEAD), 7):
            server.send(HEAD[start : start + 7])
            await asyncio.sleep(0)
        await client.until(lambda c: c.raw.endswith(PREAMBLE), "the preamble")
        server.close()

        assert client.raw == (
            b"HTTP/1.1 200 OK\r\nServer: made-by-hand\r\nConnection: close\r\n\r\n" + PREAMBLE
        )

    play(scenario)


def test_a_server_that_writes_no_head_ends_the_stream(play: Play) -> None:
    """Without a head from the server the stream ends with the reason `no-head`."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        server, sink = a_head()
        client = stage.client(hub, head_pair=sink)
        server.close()
        await client.end()

        assert client.raw == b""
        await counted(hub, {"no-head": 1})

    play(scenario)


def test_another_answer_of_middleware_is_passed_on(play: Play) -> None:
    """A head that is not 200 reaches the client, and no stream follows it."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        server, sink = a_head()
        client = stage.client(hub, head_pair=sink)
        server.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 9\r\n\r\nforbidden")
        server.close()
        await client.end()

        assert client.raw == b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n"
        await counted(hub, {"no-head": 1})

    play(scenario)


def test_a_position_is_told_to_those_who_understand_it(play: Play) -> None:
    """A fresh browser gets its position in a block without data, which is no event."""

    async def scenario(stage: Stage) -> None:
        (position,) = stage.publish("before")
        client = await stage.opened(stage.hub(), tells_position=True)

        assert client.parser.last_event_id == position
        assert client.events == []

    play(scenario)


def test_a_fresh_reader_gets_what_is_new(play: Play) -> None:
    """A reader without a last event ID gets nothing old, and everything from then on."""

    async def scenario(stage: Stage) -> None:
        stage.publish("old")
        client = await stage.opened(stage.hub())
        stage.publish("new", "newer")
        await client.got("new", "newer")

    play(scenario)


def test_a_reader_that_publishes_at_its_first_byte_gets_it(play: Play) -> None:
    """An event that is published as soon as the first byte is there is not missed."""

    async def scenario(stage: Stage) -> None:
        client = stage.client(stage.hub())
        await client.opened()
        stage.publish("mine")
        await client.got("mine")

    play(scenario)


def test_a_returning_reader_gets_what_it_missed(play: Play) -> None:
    """A reader with a last event ID gets the events after it, in order, then the live ones."""

    async def scenario(stage: Stage) -> None:
        ids = stage.publish("a", "b", "c")
        client = await stage.opened(stage.hub(), after=ids[0])
        stage.publish("d")
        await client.got("b", "c", "d")

    play(scenario)


def test_a_reader_of_another_log_is_told_so_first(play: Play) -> None:
    """A last event ID that the log does not know gives `stream-reset`, then what is there."""

    async def scenario(stage: Stage) -> None:
        stage.publish("a")
        client = await stage.opened(stage.hub(), after="aaaaaaaa-1")
        stage.publish("b")
        await client.got("a", "b")

        types = [event["type"] for event in client.events]
        assert types == ["stream-reset", "message", "message"]
        assert client.events[0]["data"] == '{"channels": ["sse"]}'

    play(scenario)


def test_joining_amid_events_loses_and_doubles_nothing(play: Play) -> None:
    """Readers that join at any moment of a stream of events get each event once, in order."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        (start,) = stage.publish("start")
        clients = [await stage.opened(hub, after=start)]
        data = [str(number) for number in range(300)]
        for turn, each in enumerate(data):
            stage.publish(each)
            if turn % 10 == 0:
                stage.log.present.clear()
            if turn % 10 == turn // 30:
                stage.log.present.set()
            if turn % 3 == 0 and turn < 150:
                clients.append(stage.client(hub, after=start))
            await asyncio.sleep(0)
        stage.log.present.set()
        for client in clients:
            await client.got(*data)

    play(scenario)


def test_joining_between_delivery_and_writing_doubles_nothing(play: Play) -> None:
    """A reader that joins when its group has frames to write, and has read them, gets them once."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        for turns in range(12):
            (start,) = stage.publish("start")
            first = await stage.opened(hub)
            stage.log.present.clear()
            second = stage.client(hub, after=start)
            await until(lambda: stage.log.replays % 2 == 0, what="the second reader's page")
            stage.log.present.set()
            for _ in range(turns):
                await asyncio.sleep(0)
            stage.publish("between")
            await first.got("between")
            await second.got("between")
            stage.publish("after")
            await second.got("between", "after")
            first.close()
            second.close()

    play(scenario)


def test_more_than_can_be_held_is_read_from_the_log(play: Play) -> None:
    """A thousand events that come while a reader waits for its page all reach it, once."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        (start,) = stage.publish("start")
        stage.log.present.clear()
        client = stage.client(hub, after=start)
        await until(lambda: stage.log.replays, what="the page to be asked for")
        data = [str(number) for number in range(900)]
        stage.publish(*data)
        stage.log.present.set()
        await client.got(*data)

    play(scenario)


# ---- chunks


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


@pytest.mark.parametrize(
    ("may_chunk", "version", "chunked"),
    [(True, b"HTTP/1.1", True), (True, b"HTTP/1.0", False), (False, b"HTTP/1.1", False)],
)
def test_chunks_are_for_http_1_1(
    play: Play, version: bytes, *, may_chunk: bool, chunked: bool
) -> None:
    """A stream is framed in chunks where client and server both speak HTTP/1.1, else not."""

    async def scenario(stage: Stage) -> None:
        head = HEAD.replace(b"HTTP/1.1", version)
        client = await opened_with_head(stage, stage.hub(), head, may_chunk=may_chunk)
        response = unframed(client)

        assert ("transfer-encoding" in response.headers) is chunked
        assert client.raw.endswith(b"e\r\n" + PREAMBLE + b"\r\n" if chunked else PREAMBLE)

    play(scenario)


def test_readers_with_and_without_chunks_get_the_same(play: Play) -> None:
    """Replay, live events, heartbeats and the end are the same in chunks and without."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub(heartbeat_s=0.05)
        (start,) = stage.publish("start")
        stage.publish("missed")
        with_chunks = await opened_with_head(stage, hub, may_chunk=True, after=start)
        without = await opened_with_head(stage, hub, after=start)
        stage.publish("live", "lines\nof it")
        await with_chunks.until(lambda c: c.raw.count(b"\n:\n") > 2, "heartbeats")
        stage.log.end("sse")
        await with_chunks.end()
        await without.end()

        assert unframed(with_chunks).complete
        unframed(without)
        assert with_chunks.events == without.events
        assert with_chunks.data == ["missed", "live", "lines\nof it"]

    play(scenario)


def test_a_chunked_stream_that_is_sent_away_is_complete(play: Play) -> None:
    """Over the limit a client that reads chunks gets a complete response."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub(max_streams=1)
        await stage.opened(hub)
        server, sink = a_head()
        client = stage.client(hub, head_pair=sink, may_chunk=True)
        server.send(HEAD)
        server.close()
        await client.end()

        assert unframed(client).complete
        assert client.parser.retry == 1600

    play(scenario)


def test_a_stop_completes_chunked_streams(play: Play) -> None:
    """The goodbye of a chunked stream completes its response."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        client = await opened_with_head(stage, hub, may_chunk=True)
        await hub.stop(1)
        await client.end()

        assert unframed(client).complete
        assert client.parser.retry == 1600

    play(scenario)


# ---- an absent log


def test_the_head_waits_no_longer_than_a_second_for_the_log(play_in_no_time: Play) -> None:
    """Where the log is away the stream opens after one second, and goes live when it is back."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        stage.log.present.clear()
        client = stage.client(hub)
        await asyncio.sleep(0.99)
        client.take()

        assert client.raw == b""

        await asyncio.sleep(0.02)
        client.take()

        assert client.raw == PREAMBLE

        stage.log.present.set()
        await until(lambda: not stage.opening(hub), what="the stream to be live")
        stage.publish("back")
        await client.got("back")

        assert client.raw.count(b"retry") == 1

    play_in_no_time(scenario)


def test_a_returning_reader_catches_up_when_the_log_is_back(play_in_no_time: Play) -> None:
    """A reader that came while the log was away gets what it missed when the log is back."""

    async def scenario(stage: Stage) -> None:
        (start,) = stage.publish("start")
        stage.publish("missed")
        stage.log.present.clear()
        client = stage.client(stage.hub(), after=start)
        await asyncio.sleep(60)
        stage.publish("meanwhile")
        stage.log.present.set()
        await client.got("missed", "meanwhile")

    play_in_no_time(scenario)


def test_heartbeats_come_while_the_log_is_away(play_in_no_time: Play) -> None:
    """A stream that waits for its log is never silent for longer than the heartbeat."""

    async def scenario(stage: Stage) -> None:
        stage.log.present.clear()
        client = stage.client(stage.hub(heartbeat_s=15))
        await asyncio.sleep(1.5)
        client.take()
        for _ in range(10):
            before = client.parser.comments
            await asyncio.sleep(15)
            client.take()

            assert client.parser.comments > before

    play_in_no_time(scenario)


def test_a_client_may_leave_while_the_log_is_away(play: Play) -> None:
    """A client that leaves before its stream is live is let go at once."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        stage.log.present.clear()
        client = stage.client(hub)
        await until(lambda: stage.log.replays, what="the page to be asked for")
        client.close()
        await until(lambda: hub.stats().streams == 0, what="the stream to be gone")

        await counted(hub, {"left": 1})

    play(scenario)


# ---- delivering


def test_what_came_together_leaves_together(play: Play) -> None:
    """The events of one turn of the loop are one write to each stream."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        clients = [await stage.opened(hub) for _ in range(3)]
        stage.publish(*"abcdefgh")
        for client in clients:
            await client.got(*"abcdefgh")

        assert hub.stats().deliveries == 3
        assert [len(client.chunks) for client in clients] == [2, 2, 2]

    play(scenario)


def test_each_reader_gets_its_channels(play: Play) -> None:
    """A reader of two channels gets the events of both, each once, and of no other."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        both = await stage.opened(hub, "a", "b")
        one = await stage.opened(hub, "b")
        for channel in "abcab":
            stage.publish(channel, channel=channel)
        await both.got(*"abab")
        await one.got("b", "b")

    play(scenario)


def test_a_reset_comes_before_newer_events(play: Play) -> None:
    """Live readers of a channel that lost something learn of it before the next event."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        touched = await stage.opened(hub, "a", "b")
        untouched = await stage.opened(hub, "b")
        hub.interrupted({"a"}, "aaaaaaaa-7")
        hub.deliver([Entry("b", 8, "aaaaaaaa-8", Event("newer"))])
        await touched.got("newer")
        await untouched.got("newer")

        assert [(e["type"], e["id"]) for e in touched.events] == [
            ("stream-reset", "aaaaaaaa-7"),
            ("message", "aaaaaaaa-8"),
        ]
        assert touched.events[0]["data"] == '{"channels": ["a"]}'
        assert len(untouched.events) == 1

    play(scenario)


def test_a_reader_that_waits_reads_again_after_a_loss(play: Play) -> None:
    """A loss while a reader waits for its page makes it read the log once more."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        (start,) = stage.publish("start")
        stage.log.present.clear()
        client = stage.client(hub, after=start)
        await until(lambda: stage.log.replays, what="the page to be asked for")
        hub.interrupted(None, start)
        stage.publish("after")
        stage.log.present.set()
        await client.got("after")

        assert stage.log.replays == 2

    play(scenario)


def test_stream_end_ends_the_stream_after_the_last_event(play: Play) -> None:
    """The end of its channel is the last thing that a stream says, and then it ends."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        client = await stage.opened(hub)
        stage.publish("last")
        stage.log.end("sse")
        await client.end()

        assert [event["type"] for event in client.events] == ["message", "stream-end"]
        assert client.events[-1]["data"] == '{"channels": ["sse"]}'
        await counted(hub, {"ended": 1})

    play(scenario)


def test_a_stream_goes_on_until_all_its_channels_ended(play: Play) -> None:
    """The end of one of two channels is told, and the stream goes on with the other."""

    async def scenario(stage: Stage) -> None:
        client = await stage.opened(stage.hub(), "a", "b")
        stage.log.end("a")
        stage.publish("b", channel="b")
        await client.got("b")

        assert not client.ended

        stage.log.end("b")
        await client.end()

        assert [e["type"] for e in client.events] == ["stream-end", "message", "stream-end"]

    play(scenario)


def test_an_event_opens_an_ended_channel_again(play: Play) -> None:
    """A channel that ended and has a new event is not ended any more."""

    async def scenario(stage: Stage) -> None:
        client = await stage.opened(stage.hub(), "a", "b")
        stage.log.end("a")
        stage.publish("again", channel="a")
        stage.log.end("b")
        stage.publish("more", channel="a")
        await client.got("again", "more")

        assert not client.ended

    play(scenario)


def test_an_end_that_was_missed_is_told_when_the_reader_is_back(play: Play) -> None:
    """A reader that was away when its channel ended gets the last events, the end, and leaves."""

    async def scenario(stage: Stage) -> None:
        (start,) = stage.publish("start")
        stage.publish("last")
        stage.log.end("sse")
        client = stage.client(stage.hub(), after=start)
        await client.end()

        assert [event["data"] for event in client.events] == ["last", '{"channels": ["sse"]}']

    play(scenario)


# ---- slow readers


def test_a_slow_reader_is_cut_and_the_others_are_served(play: Play) -> None:
    """A reader for whom too much waits is cut at the next event; the others get every event."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub(max_buffer_bytes=10_000)
        slow = await stage.opened(hub, buffer_bytes=SMALL_BUFFER_BYTES)
        slow.reads = False
        quick = await stage.opened(hub)
        stage.publish(LARGE)
        await quick.got(LARGE)

        assert hub.stats().streams == 2

        stage.publish("next")
        await quick.got(LARGE, "next")
        await until(lambda: hub.stats().streams == 1, what="the slow reader to be cut")

        await counted(hub, {"slow": 1})

    play(scenario)


def test_an_event_larger_than_the_buffer_gets_through(play: Play) -> None:
    """A single event larger than the buffer reaches a reader that reads, as do later ones."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub(max_buffer_bytes=10_000)
        client = await stage.opened(hub, buffer_bytes=SMALL_BUFFER_BYTES)
        stage.publish(LARGE)
        await client.got(LARGE)
        stage.publish("next")
        await client.got(LARGE, "next")

        assert hub.stats().ended == {}

    play(scenario)


def test_a_heartbeat_cuts_nobody(play: Play) -> None:
    """A reader that takes longer than the heartbeat for one large event is not cut for it."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub(max_buffer_bytes=10_000, heartbeat_s=0.05)
        slow = await stage.opened(hub, buffer_bytes=SMALL_BUFFER_BYTES)
        slow.reads = False
        stage.publish(LARGE)
        quick = await stage.opened(hub)
        await quick.until(lambda c: c.parser.comments > 4, "some heartbeats")
        slow.reads = True
        await slow.got(LARGE)

        assert hub.stats().ended == {}

    play(scenario)


def test_a_replay_is_paced_and_never_cut(play: Play) -> None:
    """Who reads a replay larger than the buffer slowly gets all of it, page by page."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub(max_buffer_bytes=10_000)
        (start,) = stage.publish("start")
        data = [f"{number} {'x' * 2000}" for number in range(700)]
        stage.publish(*data)
        client = stage.client(hub, after=start, buffer_bytes=SMALL_BUFFER_BYTES)
        client.reads = False
        quick = stage.client(hub)
        await quick.opened()
        stage.publish("live")
        await quick.got("live")

        assert stage.log.replays == 1  # the slow one's second page has to wait

        client.reads = True
        await client.got(*data, "live")

        assert hub.stats().ended == {}

    play(scenario)


def test_a_reader_may_leave_while_it_is_paced(play: Play) -> None:
    """A client that leaves while its replay waits for it is let go at once."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub(max_buffer_bytes=1000)
        (start,) = stage.publish("start")
        stage.publish(LARGE)
        client = stage.client(hub, after=start, buffer_bytes=SMALL_BUFFER_BYTES)
        await client.until(lambda c: c.raw, "the first bytes")
        client.close()
        await until(lambda: hub.stats().streams == 0, what="the stream to be gone")

    play(scenario)


# ---- heartbeats and lifetime


def test_a_stream_is_never_silent_for_long(play: Play) -> None:
    """Heartbeats come on a silent stream, each a comment line without a blank line."""

    async def scenario(stage: Stage) -> None:
        client = await stage.opened(stage.hub(heartbeat_s=0.05))
        await client.until(lambda c: c.parser.comments >= 4, "three heartbeats")

        assert set(bytes(client.raw).removeprefix(b"retry: 3000\n").split(b"\n")) == {b":", b""}
        assert b"\n\n" not in client.raw

    play(scenario)


def test_heartbeats_keep_their_time(play_in_no_time: Play) -> None:
    """No two bytes of a stream are further apart than the heartbeat, and few are closer."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub(heartbeat_s=15)
        client = await stage.opened(hub)
        await asyncio.sleep(4)
        late = await stage.opened(hub)
        beats_s = []
        for _ in range(3000):
            await asyncio.sleep(0.1)
            seen = late.parser.comments
            client.take()
            late.take()
            if late.parser.comments > seen:
                beats_s.append(stage.loop.time())
        gaps_s = [after - before for before, after in itertools.pairwise(beats_s)]

        assert 0 < max(gaps_s) <= 15.11
        assert min(gaps_s) > 11
        assert client.parser.comments <= 1 + 300 / 11

    play_in_no_time(scenario)


def test_an_event_makes_a_heartbeat_needless(play_in_no_time: Play) -> None:
    """A stream that had an event lately gets no heartbeat."""

    async def scenario(stage: Stage) -> None:
        client = await stage.opened(stage.hub(heartbeat_s=15))
        for _ in range(20):
            await asyncio.sleep(10)
            stage.publish("x")
        await client.until(lambda c: len(c.data) == 20, "all events")

        assert client.parser.comments == 1

    play_in_no_time(scenario)


def test_no_heartbeat_splits_a_frame(play: Play) -> None:
    """Heartbeats among events stand between frames, never inside one."""

    async def scenario(stage: Stage) -> None:
        client = await stage.opened(stage.hub(heartbeat_s=0.02))
        for number in range(40):
            stage.publish(f"{number}\nsecond line")
            seen = client.parser.comments
            if number % 10 == 0:
                await client.until(lambda c, seen=seen: c.parser.comments > seen, "a heartbeat")
            await asyncio.sleep(0)
        await client.until(lambda c: len(c.data) == 40, "all events")

        for block in bytes(client.raw).split(b"\n\n")[:-1]:
            frame = block.rpartition(b"\n:\n")[2].removeprefix(b":\n")

            assert frame.count(b"\n") == 2
            assert frame.startswith(b"data: ")

    play(scenario)


@pytest.mark.parametrize(("random", "age_s", "retry_ms"), [(0.0, 100, 0), (1.0, 80, 1000)])
def test_a_stream_ends_at_its_age(
    play_in_no_time: Play, random: float, age_s: float, retry_ms: int
) -> None:
    """A stream lives for its lifetime less up to a fifth at random, then asks to come back soon."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub(random=random, heartbeat_s=1)
        client = await stage.opened(hub, lifetime_s=100)
        await asyncio.sleep(age_s - 0.5 - stage.loop.time())
        client.take()

        assert not client.ended

        await asyncio.sleep(1)
        client.take()

        assert client.ended
        assert client.parser.retry == retry_ms
        await counted(hub, {"age": 1})

    play_in_no_time(scenario)


def test_lifetime_zero_is_for_ever(play_in_no_time: Play) -> None:
    """A stream without a lifetime is still open after a day."""

    async def scenario(stage: Stage) -> None:
        client = await stage.opened(stage.hub(heartbeat_s=3600), lifetime_s=0)
        await asyncio.sleep(86_400)
        client.take()

        assert not client.ended

    play_in_no_time(scenario)


# ---- bounds and ends


def test_one_stream_too_many_is_sent_away(play: Play) -> None:
    """Over the limit a client gets the head, a retry time spread at random, and the end."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub(max_streams=1)
        await stage.opened(hub)
        server, sink = a_head()
        client = stage.client(hub, head_pair=sink)
        server.send(HEAD)
        server.close()
        await client.end()

        assert client.raw.startswith(b"HTTP/1.1 200 OK\r\n")
        assert client.raw.endswith(b"\r\n\r\nretry: 1600\n:\n")
        await counted(hub, {"refused": 1})

    play(scenario)


def test_a_stream_that_was_sent_away_takes_nothing_from_others(play: Play) -> None:
    """A live reader goes on getting events after another of its channel was refused."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub(max_streams=1)
        live = await stage.opened(hub)
        for _ in range(3):
            await stage.client(hub).end()
        stage.publish("still here")
        await live.got("still here")

    play(scenario)


def test_a_client_that_leaves_before_its_head_takes_nothing_from_others(play: Play) -> None:
    """A live reader goes on getting events after another left before the server's head came."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        live = await stage.opened(hub)
        server, sink = a_head()
        stage.client(hub, head_pair=sink).close()
        await until(lambda: hub.stats().streams == 1, what="the other one to be gone")
        server.close()
        stage.publish("still here")
        await live.got("still here")

        await counted(hub, {"left": 1})

    play(scenario)


def test_a_place_that_is_free_again_is_given(play: Play) -> None:
    """When a stream of a full hub ends, another one may open."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub(max_streams=1)
        (await stage.opened(hub)).close()
        await until(lambda: hub.stats().streams == 0, what="the place to be free")
        client = await stage.opened(hub)
        stage.publish("x")
        await client.got("x")

    play(scenario)


def test_leaving_is_noticed_at_once(play: Play) -> None:
    """A client that closes its connection is gone without any traffic, and its descriptor too."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        client = await stage.opened(hub)
        fd = next(iter(hub._streams)).fd
        client.close()
        await until(lambda: hub.stats().streams == 0, within_s=1, what="the stream to be gone")

        await counted(hub, {"left": 1})
        assert stage.released == [fd]

    play(scenario)


def test_a_descriptor_is_closed_once(play: Play) -> None:
    """A client's descriptor is closed once: by the second time it could be another thread's."""
    closed: list[int] = []

    class Watched(_socket.socket):
        def close(self) -> None:
            closed.append(self.fileno())
            super().close()

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        client, theirs = socket.socketpair()
        connection = Watched(fileno=theirs.detach())
        connection.settimeout(0)
        fd = connection.fileno()
        hub.adopt(Adoption(connection, StreamRequest(("sse",))))
        await until(lambda: hub.stats().streams and not stage.opening(hub), what="the stream")
        client.close()
        await until(lambda: hub.stats().streams == 0, what="the stream to be gone")
        await until(lambda: connection.fileno() == -1, what="the descriptor to be closed")
        by_the_loop_itself = not isinstance(stage.loop, asyncio.BaseEventLoop)

        assert [each for each in closed if each != -1] == ([] if by_the_loop_itself else [fd])

        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)

    play(scenario)


def test_a_half_closed_connection_has_left(play: Play) -> None:
    """A client that closes its sending side counts as gone."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        client = await stage.opened(hub)
        client.half_close()
        await client.end()

        await counted(hub, {"left": 1})

    play(scenario)


def test_a_broken_connection_is_lost(play: Play) -> None:
    """A connection that breaks ends its stream with the reason `lost`."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        client = await stage.opened(hub)
        client.reads = False
        stage.publish("unread")  # closing with unread bytes breaks a socket pair
        await until(lambda: hub.stats().deliveries == 1, what="the event to be written")
        client.close()
        await until(lambda: hub.stats().streams == 0, what="the stream to be gone")

        await counted(hub, {"lost": 1})

    play(scenario)


def test_some_junk_is_borne(play: Play) -> None:
    """A client may send 64 KiB after its request: its stream goes on."""

    async def scenario(stage: Stage) -> None:
        client = await stage.opened(stage.hub())
        left = 64 * 1024
        while left:
            left -= client.send(b"x" * min(left, 8192))
            await asyncio.sleep(0)
        stage.publish("x")
        await client.got("x")

    play(scenario)


def test_a_client_that_does_not_stop_talking_is_cut(play: Play) -> None:
    """A client that goes on sending after its request is cut as `chatty`."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        client = await stage.opened(hub)
        sent = 0
        while hub.stats().streams and sent < 1_000_000:
            try:
                sent += client.send(b"x" * 8192)
            except OSError:
                break
            await asyncio.sleep(0)
        await until(lambda: hub.stats().streams == 0, what="the stream to be cut")

        await counted(hub, {"chatty": 1})

    play(scenario)


def test_a_connection_that_can_not_be_used_fails_alone(
    play: Play, caplog: pytest.LogCaptureFixture
) -> None:
    """A connection that the loop can't take is logged once; the hub goes on with the others."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        live = await stage.opened(hub)
        broken = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
        hub.adopt(Adoption(broken, StreamRequest(("sse",))))
        await until(lambda: hub.stats().streams == 1, what="the broken one to be gone")
        stage.publish("x")
        await live.got("x")

        await counted(hub, {"failed": 1})

    play(scenario)

    assert [record.getMessage() for record in caplog.records] == ["A stream could not be opened"]


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


def test_an_observer_is_told_of_each_stream(play: Play) -> None:
    """An observer hears of each stream's beginning or refusal, and its end, once each."""
    told = Told()

    async def scenario(stage: Stage) -> None:
        hub = stage.hub(observer=told, max_streams=1)
        client = await stage.opened(hub, "a", reader=Reader("one"))
        await stage.client(hub, "b", reader=Reader("two")).end()
        await until(lambda: hub.stats().ended, what="the refused stream to be gone")
        client.close()
        await until(lambda: len(told.calls) == 4, what="the end")

    play(scenario)

    assert told.calls == [
        ("opened", "one", ("a",)),
        ("refused", "two", Refusal.FULL),
        ("closed", "two", ("b",), EndReason.REFUSED),
        ("closed", "one", ("a",), EndReason.LEFT),
    ]


# ---- listening


def test_a_channel_is_listened_to_while_it_has_readers(play: Play) -> None:
    """The last reader of a channel takes its splice along, and no one before."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        first = await stage.opened(hub, "a", "b")
        second = await stage.opened(hub, "b")
        (listener,) = stage.log.listeners

        assert listener.channels == {"a", "b"}

        first.close()
        await until(lambda: hub.stats().streams == 1, what="the first to be gone")

        assert listener.channels == {"b"}

        second.close()
        await until(lambda: hub.stats().streams == 0, what="the second to be gone")

        assert listener.channels == set()

    play(scenario)


def test_an_idle_hub_rests(play_in_no_time: Play) -> None:
    """Five seconds after its last stream a hub listens no more; a new stream wakes it."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        (await stage.opened(hub)).close()
        await asyncio.sleep(4)

        assert not stage.log.listeners[0].stopped

        await asyncio.sleep(2)

        assert stage.log.listeners[0].stopped

        client = await stage.opened(hub)
        stage.publish("x")
        await client.got("x")

        assert len(stage.log.listeners) == 2

    play_in_no_time(scenario)


def test_each_last_stream_is_lingered_for(play_in_no_time: Play) -> None:
    """The five seconds begin with the last stream that ended, not with one before it."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        (await stage.opened(hub)).close()
        await asyncio.sleep(4)
        (await stage.opened(hub)).close()
        await asyncio.sleep(4)

        assert not stage.log.listeners[0].stopped

        await asyncio.sleep(2)

        assert stage.log.listeners[0].stopped

    play_in_no_time(scenario)


def test_who_missed_nothing_reads_nothing(play: Play) -> None:
    """A reader that stands where the log stands is live without a page being read."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        first, second = await stage.opened(hub), await stage.opened(hub)
        stage.publish("x")
        await first.got("x")
        await second.got("x")

        assert stage.log.replays == 0

    play(scenario)


def test_who_came_before_an_event_gets_it(play: Play) -> None:
    """What was published between the request and its adoption is read for the reader."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        await stage.opened(hub)
        standing = stage.log.arrive(["sse"], None)
        stage.publish("meanwhile")
        client = stage.client(hub, standing=standing)
        await client.got("meanwhile")

        assert stage.log.replays == 1

    play(scenario)


def test_ended_streams_make_room_for_new_ones(play: Play) -> None:
    """When all streams were ended for a time, the hub takes new ones, and its figures go on."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub(max_streams=1)
        client = await stage.opened(hub)
        await hub.end_all(1)
        await client.end()
        client = await stage.opened(hub)
        stage.publish("x")
        await client.got("x")

        assert hub.stats().opened == 2
        assert hub.stats().ended == {"shutdown": 1}

    play(scenario)


def test_a_hub_with_a_new_stream_does_not_rest(play_in_no_time: Play) -> None:
    """A page that comes back within five seconds finds the hub still listening."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        (await stage.opened(hub)).close()
        await asyncio.sleep(4)
        client = await stage.opened(hub)
        await asyncio.sleep(4)
        stage.publish("x")
        await client.got("x")

        assert len(stage.log.listeners) == 1

    play_in_no_time(scenario)


# ---- stopping


def test_stopping_says_goodbye(play: Play) -> None:
    """At the end each reader gets what was delivered, a retry time of its own, and the end."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub(retry_ms=2000)
        client = await stage.opened(hub)
        hub.deliver([Entry("sse", 1, "aaaaaaaa-1", Event("last"))])
        await hub.stop(1)
        await client.end()

        assert client.data == ["last"]
        assert client.raw.endswith(b"\n\nretry: 1100\n:\n")
        await counted(hub, {"shutdown": 1})

    play(scenario)


def test_stopping_waits_for_nobody_long(play: Play) -> None:
    """A client that takes nothing, and one whose head never comes, don't hold up the end."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        stuck = await stage.opened(hub, buffer_bytes=SMALL_BUFFER_BYTES)
        stuck.reads = False
        stage.publish(LARGE)
        await until(lambda: hub.stats().deliveries == 1, what="the event to be written")
        server, sink = a_head()
        stage.client(hub, head_pair=sink)
        await asyncio.sleep(0)
        began_s = stage.loop.time()
        await hub.stop(0.2)

        assert stage.loop.time() - began_s < 1

        await until(lambda: hub.stats().streams == 0, what="all streams to be gone")
        server.close()

        await counted(hub, {"shutdown": 2})

    play(scenario)


def test_stopping_ends_streams_that_wait_for_the_log(play_in_no_time: Play) -> None:
    """A stream that waits for its log gets the goodbye too."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        stage.log.present.clear()
        client = stage.client(hub)
        await asyncio.sleep(2)
        await hub.stop(1)
        await client.end()

        assert client.raw == PREAMBLE + b"retry: 1600\n:\n"

    play_in_no_time(scenario)


def test_who_comes_after_the_end_is_sent_away(play: Play) -> None:
    """A stream that is adopted after the stop is refused, and told when to come back."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        await hub.stop(1)
        client = stage.client(hub)
        await client.end()

        assert client.raw == b"retry: 1600\n:\n"
        await counted(hub, {"refused": 1})

    play(scenario)


# ---- counting


def test_the_hub_counts(play: Play) -> None:
    """Statistics tell open streams, opened ones, writes, and ends by reason."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()

        assert hub.stats() == Stats(streams=0, opened=0, deliveries=0, ended={})

        first, second = await stage.opened(hub), await stage.opened(hub)
        stage.publish("x")
        await first.got("x")
        await second.got("x")
        first.close()
        await until(lambda: hub.stats().streams == 1, what="the first to be gone")

        assert hub.stats() == Stats(streams=1, opened=2, deliveries=2, ended={"left": 1})

    play(scenario)


def test_every_stream_leaves_no_trace(play: Play) -> None:
    """A hub whose streams are all gone keeps nothing of them."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub(max_streams=2)
        clients = [await stage.opened(hub, "a", "b"), await stage.opened(hub, "b")]
        await stage.client(hub, "b").end()
        for client in clients:
            client.close()
        await until(lambda: hub.stats().streams == 0, what="all streams to be gone")

        assert not hub._groups
        assert not hub._groups._of
        assert not len(hub._bring_live)
        assert not +hub._readers

    play(scenario)


# ---- feeds: the stream of an application's own iterable


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


def test_a_feed_is_the_stream(play: Play) -> None:
    """What the feed brings reaches the client, and the end of the feed ends the stream."""

    async def scenario(stage: Stage) -> None:
        pump, hub, client = await fed(stage)
        pump.send(b"data: 1\n\ndata: 2\n\n")
        await client.got("1", "2")
        pump.close()
        await client.end()

        await counted(hub, {"finished": 1})

    play(scenario)


def test_a_feed_that_failed_says_so(play: Play) -> None:
    """A feed whose source raised ends the stream with the reason `failed`."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        pump, feed = a_feed()
        client = stage.client(hub, feed=feed)
        await client.opened()
        await until(lambda: not stage.opening(hub), what="the feed to be read")
        pump.recv(10)
        pump.send(b"data: 1\n\n" + FEED_FAILED)
        pump.close()
        await client.end()

        assert client.data == ["1"]
        await counted(hub, {"failed": 1})

    play(scenario)


def test_a_silent_feed_has_heartbeats(play: Play) -> None:
    """Heartbeats come while the feed is silent, and none within a line."""

    async def scenario(stage: Stage) -> None:
        pump, _, client = await fed(stage, heartbeat_s=0.05)
        await client.until(lambda c: c.parser.comments > 3, "heartbeats")
        pump.send(b"data: a")
        await client.until(lambda c: c.raw.endswith(b"data: a"), "half a line")
        (other,) = [await stage.opened(stage.hub(heartbeat_s=0.05))]
        await other.until(lambda c: c.parser.comments > 4, "heartbeats of another stream")
        pump.send(b"b\n\n")
        await client.got("ab")
        pump.close()

    play(scenario)


def test_a_feed_whose_reader_left_is_closed(play: Play) -> None:
    """When the client leaves, the feed's other end sees it."""

    async def scenario(stage: Stage) -> None:
        pump, _, client = await fed(stage)
        pump.setblocking(False)  # noqa: FBT003  the method's name says what is False
        client.close()
        await until(lambda: is_closed(pump), what="the feed to be closed")
        pump.close()

    play(scenario)


def test_a_feed_of_a_refused_stream_is_closed(play: Play) -> None:
    """When a stream with a feed is refused, the feed's other end sees it."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub(max_streams=1)
        await stage.opened(hub)
        pump, feed = a_feed()
        pump.setblocking(False)  # noqa: FBT003  the method's name says what is False
        await stage.client(hub, feed=feed).end()
        await until(lambda: is_closed(pump), what="the feed to be closed")
        pump.close()

    play(scenario)


def is_closed(sock: socket.socket) -> bool:
    """True where nobody reads what is written."""
    try:
        sock.send(b":\n")
    except BlockingIOError:
        return False
    except OSError:
        return True
    return False


def test_a_slow_reader_slows_its_feed(play: Play) -> None:
    """While the client reads nothing, the feed is read no further than the buffers are large."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub(max_buffer_bytes=10_000)
        pump, feed = a_feed()
        pump.setblocking(False)  # noqa: FBT003  the method's name says what is False
        client = stage.client(hub, feed=feed, buffer_bytes=SMALL_BUFFER_BYTES)
        await client.opened()
        client.reads = False
        sent = 0
        frame = b"data: " + b"x" * 1000 + b"\n\n"
        blocked = 0
        while blocked < 50:
            try:
                sent += pump.send(frame)
                blocked = 0
            except BlockingIOError:
                blocked += 1
                await asyncio.sleep(0.001)

            assert sent < 5_000_000

        client.reads = True
        await client.until(lambda c: len(c.raw) >= sent, "all that was sent")
        pump.recv(10)
        pump.close()
        await client.end()

        await counted(hub, {"finished": 1})

    play(scenario)


class Closings(_socket.socket):
    """A socket that notes when it is closed by its number."""

    numbers: ClassVar[list[int]] = []

    def close(self) -> None:
        if self.fileno() >= 0:
            self.numbers.append(self.fileno())
        super().close()


def test_a_feed_is_not_closed_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that leaves while its feed is connected does not end what got the feed's number.

    uvloop closes the descriptor itself, and would close such a socket once more.
    """
    monkeypatch.setattr(Closings, "numbers", [])

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        pump, ours = socket.socketpair()
        feed = Closings(fileno=ours.detach())
        feed.settimeout(0)
        stage.client(hub, feed=feed)
        (stream,) = hub._streams
        for _ in range(1000):
            if stream.feed is not None:
                break
            await asyncio.sleep(0)
        assert stream.opening is not None
        stream.opening.cancel()
        await until(lambda: not hub.stats().streams, what="the stream to be gone")

        pump.settimeout(10)
        while pump.recv(10):
            pass  # the word to begin may be on its way
        assert Closings.numbers == []
        pump.close()

    perform(LOOPS["uvloop"], scenario)
