"""Coming back together: readers of one place share what is read, and nobody loses by it."""

from __future__ import annotations

import random
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from flask_eventstream.hub import shared_pages as pages
from harness.stage import LOOPS, Stage, perform, until

Scenario = Callable[[Stage], Coroutine[Any, Any, None]]
Play = Callable[[Scenario], None]

MANY = 50


@pytest.fixture(params=sorted(LOOPS))
def play(request: pytest.FixtureRequest) -> Play:
    return lambda scenario: perform(LOOPS[request.param], scenario)


def test_what_many_missed_is_read_once(play: Play) -> None:
    """Readers who come back with one last event ID get what they missed, from one read."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        (start,) = stage.publish("seen")
        stage.publish("1", "2")
        stage.log.present.clear()
        clients = [stage.client(hub, after=start) for _ in range(MANY)]
        await until(lambda: stage.log.replays, what="a page to be asked for")
        stage.log.present.set()
        for client in clients:
            await client.got("1", "2")

        assert stage.log.replays == 1

    play(scenario)


def test_a_page_serves_who_comes_a_little_later(play: Play) -> None:
    """As long as nothing comes, a page that was read is good for the next reader too."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        (start,) = stage.publish("seen")
        stage.publish("1")
        for _ in range(3):
            await (await stage.opened(hub, after=start)).got("1")

        assert stage.log.replays == 1

    play(scenario)


def test_an_event_ends_the_sharing(play: Play) -> None:
    """Who comes after an event reads anew, and has the event once, as those before have it."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        (start,) = stage.publish("seen")
        stage.publish("1")
        first = await stage.opened(hub, after=start)
        stage.publish("2")
        await first.got("1", "2")
        second = await stage.opened(hub, after=start)
        stage.publish("3")

        await first.got("1", "2", "3")
        await second.got("1", "2", "3")
        assert stage.log.replays == 2

    play(scenario)


def test_a_page_is_not_kept_over_a_time_when_nobody_listened(play: Play) -> None:
    """An event that came between two readers, while nobody read, is not passed over."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        (start,) = stage.publish("seen")
        stage.publish("1")
        first = await stage.opened(hub, after=start)
        await first.got("1")
        first.close()
        await until(lambda: not hub.stats().streams, what="the reader to be gone")
        stage.publish("2")
        second = await stage.opened(hub, after=start)

        await second.got("1", "2")

    play(scenario)


def test_a_loss_ends_the_sharing(play: Play) -> None:
    """What was read before a loss is not given to readers who come after it."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        (start,) = stage.publish("seen")
        stage.publish("1")
        await stage.opened(hub, after=start)
        hub.interrupted({"sse"}, start)
        await stage.opened(hub, after=start)

        assert stage.log.replays == 2

    play(scenario)


def test_who_leaves_takes_nothing_along(play: Play) -> None:
    """A reader who leaves while a page is read does not end the reading for the others."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        (start,) = stage.publish("seen")
        stage.publish("1")
        stage.log.present.clear()
        leaver = stage.client(hub, after=start)
        stayer = stage.client(hub, after=start)
        await until(lambda: stage.log.replays, what="a page to be asked for")
        leaver.close()
        await until(lambda: hub.stats().streams == 1, what="one reader to be gone")
        stage.log.present.set()

        await stayer.got("1")

    play(scenario)


def test_pages_are_not_kept_for_long(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page is let go after its time."""
    monkeypatch.setattr(pages, "_KEEP_S", 0.02)

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        (start,) = stage.publish("seen")
        await stage.opened(hub, after=start)
        await until(lambda: not hub._pages._reads, what="the page to be let go")

    play(scenario)


def test_few_pages_are_kept(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where readers come back from many places, the oldest page goes."""
    monkeypatch.setattr(pages, "_KEEP_S", 60)

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        for event_id in stage.publish(*map(str, range(2 * pages._MOST))):
            await stage.opened(hub, after=event_id)

        assert len(hub._pages._reads) == pages._MOST

    play(scenario)


@pytest.mark.parametrize("seed", range(10))
def test_nobody_loses_or_doubles_by_sharing(play: Play, seed: int) -> None:
    """Readers who come, come back and leave while events come get each of theirs once."""
    chance = random.Random(seed)

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        stage.publish("0", channel="a")
        ids, texts = stage.publish("1", channel="a"), ["1"]
        readers = []
        for number in range(2, 120):
            if chance.random() < 0.4:
                ids += stage.publish(str(number), channel="a")
                texts.append(str(number))
            behind = min(chance.choice([1, 2, 2, 2, 5]), len(ids))
            client = stage.client(hub, *chance.choice([["a"], ["a", "b"]]), after=ids[-behind])
            due = len(texts) - behind + 1
            if chance.random() < 0.3:
                client.close()
            else:
                readers.append((client, due))
            if chance.random() < 0.5:
                await until(lambda: stage.opening(hub) < 5, what="streams to open")
        for client, due in readers:
            await client.got(*texts[due:])

    play(scenario)
