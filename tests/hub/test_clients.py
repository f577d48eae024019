"""Not to myself: the streams of the page that caused an event are left out, live and on replay."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from flask_eventstream.event import Event
from flask_eventstream.hub.request import Reader
from harness.stage import LOOPS, Client, Clock, Stage, perform, until

Play = Callable[[Callable[[Stage], Coroutine[Any, Any, None]]], None]

ME = Reader(client_id="me")


@pytest.fixture(params=LOOPS)
def play(request: pytest.FixtureRequest) -> Play:
    """Run a scenario on each kind of loop."""
    return lambda scenario: perform(LOOPS[request.param], scenario)


@pytest.fixture
def play_in_no_time() -> Play:
    """Run a scenario on a loop whose clock jumps: for claims about seconds."""
    return lambda scenario: perform(Clock, scenario)


def publish(stage: Stage, data: str, exclude: str | None = None, channel: str = "sse") -> str:
    return stage.log.publish(channel, Event(data, exclude=exclude))


def test_a_live_client_does_not_get_its_own_events(play: Play) -> None:
    """All streams of the client are left out, and nobody else's; order is kept for everybody."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        mine = [await stage.opened(hub, reader=Reader(client_id="me")) for _ in range(2)]
        other = await stage.opened(hub, reader=Reader(client_id="you"))
        nameless = await stage.opened(hub)
        both = await stage.opened(hub, "sse", "more", reader=ME)
        for data, exclude in (("1", None), ("2", "me"), ("3", None), ("4", "nobody"), ("5", "me")):
            publish(stage, data, exclude)
        publish(stage, "6")

        for client in (*mine, both):
            await client.got("1", "3", "4", "6")
        for client in (other, nameless):
            await client.got("1", "2", "3", "4", "5", "6")

    play(scenario)


def test_what_came_before_is_not_held_back(play: Play) -> None:
    """An event that nobody is left to get changes nothing for the next one."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        alone = await stage.opened(hub, reader=ME)
        publish(stage, "mine", "me")
        await asyncio.sleep(0.05)
        publish(stage, "yours")
        await alone.got("yours")

        assert hub.stats().deliveries == 1

    play(scenario)


@pytest.mark.parametrize("tells_position", [False, True])
def test_who_comes_back_does_not_get_them_either(play: Play, tells_position: bool) -> None:  # noqa: FBT001
    """A reconnect of the client replays what it missed, less its own."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        start = publish(stage, "seen")
        for data, exclude in (("1", "me"), ("2", None), ("3", "me")):
            publish(stage, data, exclude)
        more = {"after": start, "tells_position": tells_position}
        mine = await stage.opened(hub, reader=ME, **more)
        other = await stage.opened(hub, reader=Reader(client_id="you"), **more)
        publish(stage, "4")

        await mine.got("2", "4")
        await other.got("1", "2", "3", "4")

    play(scenario)


def test_a_browser_learns_where_it_is_all_the_same(play: Play) -> None:
    """After its own events, a browser's position is behind them: it need not be read again."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        start = publish(stage, "seen")
        position = publish(stage, "1", "me")
        mine = await stage.opened(hub, reader=ME, after=start, tells_position=True)
        await mine.until(lambda c: c.parser.last_event_id == position, "the position")

        assert mine.data == []

    play(scenario)


def test_what_was_held_is_left_out(play: Play) -> None:
    """What comes while the client is brought live is left out, too."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        start = publish(stage, "seen")
        publish(stage, "0", "me")
        await stage.opened(hub)  # whose channel the listener has
        stage.log.present.clear()
        mine: Client = stage.client(hub, reader=ME, after=start)
        await until(lambda: stage.opening(hub) == 1, what="a stream that waits")
        publish(stage, "1", "me")
        publish(stage, "2")
        await asyncio.sleep(0.05)
        stage.log.present.set()

        await mine.got("2")

    play(scenario)


def test_who_is_left_out_gets_heartbeats(play_in_no_time: Play) -> None:
    """A client that causes every event of its channel is not silent for it."""

    async def scenario(stage: Stage) -> None:
        mine = await stage.opened(stage.hub(heartbeat_s=15), reader=ME)
        before = mine.parser.comments
        for _ in range(20):
            publish(stage, "x", "me")
            await asyncio.sleep(5)
        mine.take()

        assert mine.parser.comments >= before + 5
        assert mine.data == []

    play_in_no_time(scenario)


def test_nothing_is_kept_of_who_left(play: Play) -> None:
    """The hub remembers no client without a stream."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        clients = [await stage.opened(hub, reader=ME) for _ in range(2)]
        assert len(hub._clients) == 1
        for client in clients:
            client.close()
        await until(lambda: hub.stats().streams == 0, what="both to be gone")

        assert len(hub._clients) == 0

    play(scenario)
