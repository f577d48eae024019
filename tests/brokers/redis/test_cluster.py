"""`redis.cluster`: pages of channels that have a log each, as one page of their reader."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from flask_eventstream.brokers.redis import cluster as room
from flask_eventstream.brokers.redis.cluster import ClusterListener, merge_replays
from flask_eventstream.brokers.redis.scripts import Keys
from flask_eventstream.brokers.redis.url import RedisUrl
from flask_eventstream.event import Event
from flask_eventstream.log.entries import Entry, Replay
from flask_eventstream.log.position import Position, decompose
from harness.ports import HOST, free_port

CHANNELS = ("a", "b", "c")


def position(channel: str, sequence: int) -> str:
    return str(Position(f"epoch{channel}000"[:8], sequence))


def page(channel: str, first: int, count: int, *, more: bool = False) -> Replay:
    last = first + count - 1
    return Replay(
        entries=[
            Entry(channel, sequence, position(channel, sequence), Event(f"{channel}{sequence}"))
            for sequence in range(first, first + count)
        ],
        gone=frozenset({channel} if more else ()),
        sequence=last,
        start=position(channel, first - 1),
        position=position(channel, last),
        more=more,
    )


pages = st.fixed_dictionaries(
    {channel: st.builds(page, st.just(channel), st.integers(1, 9), st.integers(0, 4))
     for channel in CHANNELS}
)  # fmt: skip


@given(pages)
def test_each_entry_is_a_place_in_every_log(made: dict[str, Replay]) -> None:
    """Whoever resumes behind any entry of the page has got what stands before it, and no more."""
    merged = merge_replays(made)
    behind = {channel: replay.start for channel, replay in made.items()}

    assert decompose(merged.start, CHANNELS) == behind
    for entry in merged.entries:
        behind[entry.channel] = position(entry.channel, entry.sequence)
        assert decompose(entry.position, CHANNELS) == behind
    assert decompose(merged.position, CHANNELS) == {c: p.position for c, p in made.items()}


@given(pages)
def test_nothing_is_lost_by_merging(made: dict[str, Replay]) -> None:
    """The page has all entries, those of each channel in their order, and how far each reaches."""
    merged = merge_replays(made)

    for channel, replay in made.items():
        assert [e.event for e in merged.entries if e.channel == channel] == [
            e.event for e in replay.entries
        ]
        assert merged.sequence_in(channel) == replay.sequence


def test_what_one_log_says_holds_for_the_page() -> None:
    """One log with more to come, or with a gap, makes the page one that has it."""
    merged = merge_replays({"a": page("a", 1, 1), "b": page("b", 1, 2, more=True)})

    assert merged.more
    assert merged.gone == {"b"}


def a_listener() -> ClusterListener:
    """One of a cluster of which no node answers."""
    url = RedisUrl.parse(f"redis+cluster://{HOST}:{free_port()}", key="k")
    inbox: Any = None
    loop = asyncio.get_running_loop()
    return ClusterListener(loop, inbox, url, keys=Keys("sse:", is_cluster=True), retention=None)


@pytest.mark.parametrize(
    "call",
    [
        lambda listener: listener.subscribe(["a"]),
        lambda listener: listener.replay(["a"], None),
        lambda listener: listener.replay(["a", "b"], None),
    ],
    ids=["subscribe", "replay", "replay of two"],
)
def test_who_waits_for_the_slots_is_cancelled(call: Any) -> None:
    """While nobody says which node has a channel one waits; when the reading side ends, no more."""

    async def stop_while_it_waits() -> None:
        listener = a_listener()
        waiting = asyncio.ensure_future(call(listener))
        await asyncio.sleep(0.05)
        assert not waiting.done()

        listener.stop()

        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(waiting, 5)
        assert await asyncio.wait_for(asyncio.gather(call(listener), return_exceptions=True), 5)

    asyncio.run(stop_while_it_waits())


def test_a_connection_that_is_lost_while_the_slots_are_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What uvloop raises of a lost connection is a node that did not answer, and no defect."""

    class Lost:
        async def execute_command(self, _: str) -> None:
            raise RuntimeError("unable to perform operation; the handler is closed")

        aclose = lambda self: self.execute_command("")  # noqa: E731

    monkeypatch.setattr(room.RedisUrl, "async_client", lambda *_: Lost())

    async def ask() -> object:
        return await a_listener()._ask_slots()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(ask()) is None
