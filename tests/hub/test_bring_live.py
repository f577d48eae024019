"""`hub.bring_live`: from where a reader is to live, without a gap and without a double."""

from __future__ import annotations

import asyncio

from harness.stage import Stage, until
from hub.at_hand import (
    LARGE,
    SMALL_BUFFER_BYTES,
    Play,
    counted,
)


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
