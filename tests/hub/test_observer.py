"""`hub.observer`: who is told of streams."""

from __future__ import annotations

from flask_eventstream.errors import EndReason
from flask_eventstream.hub.admission import Refusal
from flask_eventstream.hub.request import Reader
from harness.stage import Stage, until
from hub.at_hand import (
    Play,
    Told,
)


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
