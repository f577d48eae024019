"""The fan-out, on the loops that it runs on, with streams that only note what they get."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from flask_eventstream.errors import EndReason
from flask_eventstream.event import Event
from flask_eventstream.hub.fanout import FanOut
from flask_eventstream.hub.groups import Group
from flask_eventstream.hub.observer import Unobserved
from flask_eventstream.log.entries import Entry
from harness.stage import LOOPS, Stage, perform

Play = Callable[[Callable[[Stage], Coroutine[Any, Any, None]]], None]


class Listed:
    """A stream that notes what it gets."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    def push(self, data: bytes, chunk: bytes) -> None:
        assert chunk == b"%x\r\n%b\r\n" % (len(data), data)

        self.got.append(data)

    def end(self, reason: EndReason) -> None:
        self.got.append(reason)


@pytest.fixture(params=LOOPS)
def play(request: pytest.FixtureRequest) -> Play:
    """Run a scenario on each kind of loop."""
    return lambda scenario: perform(LOOPS[request.param], scenario)


def a_group(count: int, *channels: str) -> tuple[Group, list[Listed]]:
    group = Group(channels or ("sse",), ended=set(), now_s=0.0)
    streams = [Listed() for _ in range(count)]
    for stream in streams:
        group.join(stream)  # type: ignore[arg-type]
    return group, streams


def entry(data: str | None, channel: str = "sse") -> Entry:
    if data is None:
        return Entry.end(channel, 1, "aaaaaaaa-1")
    return Entry(channel, 1, "aaaaaaaa-1", Event(data))


def give(fan_out: FanOut, group: Group, *data: str) -> None:
    for each in data:
        group.add(entry(each))
        fan_out.ready(group)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


def frame(data: str) -> bytes:
    return b"data: %s\nid: aaaaaaaa-1\n\n" % data.encode()


def test_frames_of_one_turn_are_one_write(play: Play) -> None:
    """Everything that came in one turn of the loop is written at once, in its order."""

    async def scenario(stage: Stage) -> None:
        fan_out = FanOut(stage.loop, Unobserved())
        group, streams = a_group(3)
        give(fan_out, group, "a", "b")

        assert [stream.got for stream in streams] == [[], [], []]

        await turns(2)

        assert [stream.got for stream in streams] == [[frame("a") + frame("b")]] * 3
        assert fan_out.deliveries == 3

    play(scenario)


def test_frames_of_two_turns_are_two_writes(play: Play) -> None:
    """What comes later is written later, never lost and never twice."""

    async def scenario(stage: Stage) -> None:
        fan_out = FanOut(stage.loop, Unobserved())
        group, (stream,) = a_group(1)
        give(fan_out, group, "a")
        await turns(2)
        give(fan_out, group, "b")
        await turns(2)

        assert stream.got == [frame("a"), frame("b")]

    play(scenario)


def test_a_long_write_yields_to_the_loop(play: Play) -> None:
    """Between two slices of 64 streams the loop takes its turn."""

    async def scenario(stage: Stage) -> None:
        fan_out = FanOut(stage.loop, Unobserved())
        group, streams = a_group(1000)
        give(fan_out, group, "a")
        written: list[int] = []
        while sum(map(bool, (stream.got for stream in streams))) < 1000:
            await asyncio.sleep(0)
            written.append(sum(map(bool, (stream.got for stream in streams))))

            assert len(written) < 100

        assert max(b - a for a, b in zip([0, *written], written, strict=False)) == 64
        assert fan_out.deliveries == 1000

    play(scenario)


def test_small_groups_share_a_slice(play: Play) -> None:
    """Many groups of one stream are written 64 to a turn, not one."""

    async def scenario(stage: Stage) -> None:
        fan_out = FanOut(stage.loop, Unobserved())
        groups = [a_group(1) for _ in range(128)]
        for group, _ in groups:
            give(fan_out, group, "a")
        await turns(3)

        assert all(stream.got == [frame("a")] for _, (stream,) in groups)

    play(scenario)


def test_order_holds_across_slices(play: Play) -> None:
    """Events that come during a long write follow it, for every stream."""

    async def scenario(stage: Stage) -> None:
        fan_out = FanOut(stage.loop, Unobserved())
        group, streams = a_group(200)
        for each in "abcdef":
            give(fan_out, group, each)
            await asyncio.sleep(0)
        await turns(50)

        assert {b"".join(stream.got) for stream in streams} == {b"".join(map(frame, "abcdef"))}

    play(scenario)


def test_who_comes_after_the_seal_gets_only_what_is_newer(play: Play) -> None:
    """Sealing gives what waits to the streams of now; a stream that joins then gets the rest."""

    async def scenario(stage: Stage) -> None:
        fan_out = FanOut(stage.loop, Unobserved())
        group, (first,) = a_group(1)
        give(fan_out, group, "a")
        fan_out.seal(group)
        second = Listed()
        group.join(second)  # type: ignore[arg-type]
        give(fan_out, group, "b")
        await turns(3)

        assert b"".join(first.got) == frame("a") + frame("b")
        assert second.got == [frame("b")]

    play(scenario)


def test_sealing_nothing_writes_nothing(play: Play) -> None:
    """A group without frames is not written to."""

    async def scenario(stage: Stage) -> None:
        fan_out = FanOut(stage.loop, Unobserved())
        group, (stream,) = a_group(1)
        fan_out.seal(group)
        await turns(2)

        assert stream.got == []
        assert fan_out.deliveries == 0

    play(scenario)


def test_a_group_without_streams_is_written_to_nobody(play: Play) -> None:
    """Frames for a group that everybody left go nowhere, and hold nothing up."""

    async def scenario(stage: Stage) -> None:
        fan_out = FanOut(stage.loop, Unobserved())
        empty, _ = a_group(0)
        group, (stream,) = a_group(1)
        give(fan_out, empty, "a")
        give(fan_out, group, "b")
        await turns(2)

        assert stream.got == [frame("b")]
        assert not fan_out._jobs

    play(scenario)


def test_the_end_of_all_channels_ends_the_streams(play: Play) -> None:
    """A group whose channels have all ended ends its streams after the last frame."""

    async def scenario(stage: Stage) -> None:
        fan_out = FanOut(stage.loop, Unobserved())
        group, (stream,) = a_group(1, "a", "b")
        group.add(entry(None, "a"))
        fan_out.ready(group)
        await turns(2)

        assert EndReason.ENDED not in stream.got

        group.add(entry("last", "b"))
        group.add(entry(None, "b"))
        fan_out.ready(group)
        await turns(2)

        assert stream.got[-1] is EndReason.ENDED
        assert stream.got[-2].startswith(frame("last"))

    play(scenario)


def test_an_event_takes_a_channels_end_back() -> None:
    """A group is over only while all its channels are ended."""
    group, _ = a_group(1)
    group.add(entry(None))

    assert group.over

    group.add(entry("again"))

    assert not group.over


def test_finish_writes_everything_now(play: Play) -> None:
    """`finish` writes all that waits before it returns, whatever the slices."""

    async def scenario(stage: Stage) -> None:
        fan_out = FanOut(stage.loop, Unobserved())
        group, streams = a_group(300)
        give(fan_out, group, "a")
        await asyncio.sleep(0)
        give(fan_out, group, "b")
        fan_out.finish()

        assert {b"".join(stream.got) for stream in streams} == {frame("a") + frame("b")}

    play(scenario)


def test_what_comes_during_a_fan_out_leaves_together_after_it(play: Play) -> None:
    """Events that come while others are written, one each turn, are one write per stream."""

    async def scenario(stage: Stage) -> None:
        fan_out = FanOut(stage.loop, Unobserved())
        group, streams = a_group(640)
        give(fan_out, group, "first")
        await turns(2)
        for number in range(5):
            give(fan_out, group, str(number))
            await turns(1)
        await turns(40)

        written = {tuple(stream.got) for stream in streams}
        first, *others = next(iter(written))
        assert len(written) == 1
        assert first == entry("first").frame
        assert b"".join(others) == b"".join(entry(str(n)).frame for n in range(5))
        assert len(others) == 1

    play(scenario)
