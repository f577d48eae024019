"""`hub.clockwork`: heartbeats and lifetimes."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from harness.stage import Stage
from hub.at_hand import (
    LARGE,
    SMALL_BUFFER_BYTES,
    Play,
    counted,
)


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
