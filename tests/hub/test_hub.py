"""The hub, on the loops that it runs on, with socket pairs as clients."""

from __future__ import annotations

import asyncio

from flask_eventstream.event import Event
from flask_eventstream.hub.hub import Stats
from flask_eventstream.log.entries import Entry
from harness.stage import Stage, until
from hub.at_hand import (
    HEAD,
    LARGE,
    PREAMBLE,
    SMALL_BUFFER_BYTES,
    Play,
    a_head,
    counted,
    opened_with_head,
    unframed,
)


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
