"""The hot paths alone: what our own code costs per event, per delivery and per reader.

Run by `make bench`, and not by `make test`: a figure is no claim.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import cast

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from flask_eventstream.event import Event
from flask_eventstream.framing import rewrite_head
from flask_eventstream.hub.catchup import CatchUp
from flask_eventstream.hub.fanout import FanOut
from flask_eventstream.hub.groups import Group
from flask_eventstream.hub.observer import Unobserved
from flask_eventstream.hub.splice import Splice
from flask_eventstream.hub.stream import Stream
from flask_eventstream.log.entries import Entry, Replay
from flask_eventstream.log.position import Position, compose, decompose

STREAMS = 1000
BEHIND = 100
HEAD = (
    b"HTTP/1.1 200 OK\r\nServer: gunicorn\r\nDate: Sat, 21 Nov 2026 02:00:00 GMT\r\n"
    b"Connection: close\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n"
)


class Mute:
    """A stream that writes nothing: what is left is our loop."""

    def push(self, data: bytes, chunk: bytes) -> None:
        """Take it."""


class Turns:
    """As much of a loop as a fan-out needs, turned by hand."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], object]] = deque()

    def call_soon(self, callback: Callable[[], object], *_: object, **__: object) -> None:
        """Remember it."""
        self._waiting.append(callback)

    def time(self) -> float:
        """No time passes."""
        return 0.0

    def run(self) -> None:
        """Turn until nothing waits."""
        while self._waiting:
            self._waiting.popleft()()


def entry(sequence: int) -> Entry:
    """An entry as a log gives it."""
    return Entry("sse", sequence, f"aaaaaaaa-{sequence}", Event(f"{sequence} {'x' * 100}"))


@pytest.mark.parametrize("size", [100, 1024, 65_536])
def test_encode(benchmark: BenchmarkFixture, size: int) -> None:
    """An event's bytes."""
    event = Event("x" * size)
    benchmark(event.encode, "aaaaaaaa-17")


def test_validate_and_encode(benchmark: BenchmarkFixture) -> None:
    """An event as a view publishes it, of JSON."""
    benchmark(lambda: Event({"message": "Hello!", "number": 17}, type="greeting").encode("a-1"))


def fan_out_of(streams: int) -> tuple[Turns, FanOut, Group]:
    """A fan-out with one group of mute streams."""
    turns = Turns()
    fan_out = FanOut(cast("asyncio.AbstractEventLoop", turns), Unobserved())
    group = Group(("sse",), ended=set(), now_s=0.0)
    for _ in range(streams):
        group.join(cast("Stream", Mute()))
    return turns, fan_out, group


def test_fan_out_step(benchmark: BenchmarkFixture) -> None:
    """One event to 1,000 streams, less the streams' own work."""
    turns, fan_out, group = fan_out_of(STREAMS)
    event = entry(1)

    def step() -> None:
        group.add(event)
        fan_out.ready(group)
        turns.run()

    benchmark(step)


def test_join_500_events(benchmark: BenchmarkFixture) -> None:
    """500 events of one turn, joined for one stream."""
    turns, fan_out, group = fan_out_of(1)
    events = [entry(sequence) for sequence in range(500)]

    def step() -> None:
        for event in events:
            group.add(event)
            fan_out.ready(group)
        turns.run()

    benchmark(step)


def test_position_parse(benchmark: BenchmarkFixture) -> None:
    """A last event ID of a log with one order."""
    benchmark(Position.parse, "aaaaaaaa-1234567")


def test_position_decompose(benchmark: BenchmarkFixture) -> None:
    """A last event ID of three channels in a cluster."""
    positions = {f"channel-{number}": f"aaaaaaaa-{number}" for number in range(3)}
    benchmark(decompose, compose(positions), positions.keys())


def replay_of(entries: list[Entry]) -> Replay:
    """A page of a log that gives these entries, and has no more."""
    return Replay(
        entries=entries,
        gone=frozenset(),
        sequence=len(entries),
        start="aaaaaaaa-0",
        position=f"aaaaaaaa-{len(entries)}",
    )


def test_splice(benchmark: BenchmarkFixture) -> None:
    """A reader's way to live: 100 live entries held, half of them also in the log."""
    live = [entry(sequence) for sequence in range(BEHIND)]
    replay = replay_of(live[: BEHIND // 2])

    def splice() -> None:
        splice = Splice("aaaaaaaa-0")
        splice.reading()
        for one in live:
            splice.hold(one)
        splice.replayed(replay)
        splice.release()

    benchmark(splice)


def test_catch_up_page(benchmark: BenchmarkFixture) -> None:
    """The bytes of 100 missed events for one reader."""
    replay = replay_of([entry(sequence) for sequence in range(1, BEHIND + 1)])

    def page() -> bytes:
        catch_up = CatchUp(["sse"], "aaaaaaaa-0", preamble=b"retry: 3000\n:\n", tells_position=True)
        return catch_up.page(replay)

    benchmark(page)


def test_rewrite_head(benchmark: BenchmarkFixture) -> None:
    """The head that the server wrote, with our framing."""
    benchmark(rewrite_head, HEAD, chunked=True)
