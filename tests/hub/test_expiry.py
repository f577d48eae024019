"""The end of a right to read, on a clock that jumps, and on the loops of real servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from flask_eventstream.event import Event
from flask_eventstream.hub.request import Reader
from harness.stage import LOOPS, Clock, Stage, perform, until

Scenario = Callable[[Stage], Coroutine[Any, Any, None]]

TODAY = 1_800_000_000.0
EXPIRED = b'event: stream-expired\ndata: {"channels": ["a", "b"]}\n\n'


class Calendar:
    """The seconds since 1970, which somebody may set."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.ahead_s = TODAY

    def __call__(self) -> float:
        return self._loop.time() + self.ahead_s


def in_no_time(scenario: Scenario) -> None:
    perform(Clock, scenario)


def until_in(seconds: float) -> Reader:
    return Reader(expires_at=TODAY + seconds)


@pytest.mark.parametrize("heartbeat_s", [1, 15, 3600])
def test_a_right_ends_in_time(heartbeat_s: float) -> None:
    """At its time, not before and within a second, a stream is told that it expired, and ends."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub(heartbeat_s=heartbeat_s, now=Calendar(stage.loop))
        client = await stage.opened(hub, "b", "a", reader=until_in(100))
        await asyncio.sleep(99.9 - stage.loop.time())
        client.take()

        assert not client.ended

        await asyncio.sleep(1)
        client.take()

        assert client.ended
        assert client.raw.endswith(b"retry: 500\n" + EXPIRED)
        await until(lambda: hub.stats().ended == {"expired": 1}, what="the end to be counted")

    in_no_time(scenario)


def test_the_end_of_a_right_has_no_id() -> None:
    """A reader keeps the id of the last event that it got, to resume from with a new right."""

    async def scenario(stage: Stage) -> None:
        client = await stage.opened(stage.hub(now=Calendar(stage.loop)), reader=until_in(100))
        (position,) = stage.publish("seen")
        await asyncio.sleep(101)
        client.take()

        assert [event["type"] for event in client.events] == ["message", "stream-expired"]
        assert client.parser.last_event_id == position

    in_no_time(scenario)


def test_a_right_may_be_long() -> None:
    """A right of a month is good for a month, and one until the end of time is no trouble."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub(heartbeat_s=3600, now=Calendar(stage.loop))
        month_s = 30 * 86_400.0
        month = await stage.opened(hub, reader=until_in(month_s))
        ever = await stage.opened(hub, reader=Reader(expires_at=1e300))
        await asyncio.sleep(month_s - 1 - stage.loop.time())
        month.take()

        assert not month.ended

        await asyncio.sleep(2)
        month.take()
        ever.take()

        assert month.ended
        assert not ever.ended

    in_no_time(scenario)


@pytest.mark.parametrize("jump_s", [-7200, 7200])
def test_a_calendar_that_is_set_moves_no_right(jump_s: float) -> None:
    """A right lasts as long as it was to last when the stream came, however the date is set."""

    async def scenario(stage: Stage) -> None:
        calendar = Calendar(stage.loop)
        client = await stage.opened(stage.hub(now=calendar), reader=until_in(3600))
        calendar.ahead_s += jump_s
        await asyncio.sleep(3590)
        client.take()

        assert not client.ended

        await asyncio.sleep(11)
        client.take()

        assert client.ended

    in_no_time(scenario)


def test_a_stream_that_waits_for_the_broker_expires() -> None:
    """A stream that is open but not live, because the log is away, ends in time too."""

    async def scenario(stage: Stage) -> None:
        stage.log.present.clear()
        client = stage.client(
            stage.hub(now=Calendar(stage.loop)), "a", "b", after="aaaaaaaa-1", reader=until_in(60)
        )
        await client.opened()
        await asyncio.sleep(61)
        client.take()

        assert client.ended
        assert client.raw.endswith(EXPIRED)

    in_no_time(scenario)


def test_a_right_that_ends_before_the_stream_begins() -> None:
    """A stream whose right ended on the way to the hub ends without an event."""

    async def scenario(stage: Stage) -> None:
        stage.publish("secret")
        hub = stage.hub(now=Calendar(stage.loop))
        stage.log.present.clear()
        client = stage.client(hub, after="aaaaaaaa-1", reader=until_in(-1))
        await client.end()
        stage.log.present.set()

        assert b"secret" not in client.raw

    in_no_time(scenario)


def test_a_client_that_takes_nothing_is_cut() -> None:
    """Where the client does not read, the connection is gone soon after, with what waits for it."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub(now=Calendar(stage.loop))
        stage.log.publish("sse", Event("x" * 900_000))
        client = stage.client(hub, after="aaaaaaaa-1", buffer_bytes=4096, reader=until_in(60))
        client.reads = False
        await asyncio.sleep(61)
        await until(lambda: hub.stats().streams == 0, what="the stream to be gone")

        assert hub.stats().ended == {"expired": 1}

    in_no_time(scenario)


def test_who_left_is_forgotten() -> None:
    """No timer stays behind a stream whose client left before its right ended."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub(now=Calendar(stage.loop))
        client = await stage.opened(hub, reader=until_in(60))
        client.close()
        await until(lambda: hub.stats().streams == 0, what="the stream to be gone")

        assert not hub._expiry._timers

    in_no_time(scenario)


@pytest.mark.parametrize("loop", LOOPS)
def test_rights_end_on_real_loops(loop: str) -> None:
    """On each kind of loop, by the real calendar, within a second of its time."""

    async def scenario(stage: Stage) -> None:
        end = time.time() + 0.3
        client = await stage.opened(stage.hub(), "a", "b", reader=Reader(expires_at=end))
        await client.end()

        assert client.raw.endswith(EXPIRED)
        assert end - 0.05 <= time.time()

    perform(LOOPS[loop], scenario)
