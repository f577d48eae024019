"""Groups of streams: found by what they read, and left at once."""

from __future__ import annotations

import time
import tracemalloc
from typing import cast

from flask_eventstream.hub.groups import Group, Groups
from flask_eventstream.hub.stream import Stream

MANY = 20_000


class AStream:
    """As much of a stream as a group needs."""


def joined(groups: Groups, *channels: str) -> Stream:
    stream = cast("Stream", AStream())
    group = groups.get(channels)
    if group is None:
        group = Group(channels, ended=set(), now_s=0.0)
        groups.add(group)
    group.join(stream)
    return stream


def test_a_group_without_streams_is_forgotten() -> None:
    """A group is there while it has a stream, under each of its channels."""
    groups = Groups()
    one, other = joined(groups, "a", "b"), joined(groups, "a", "b")
    groups.leave(one, ("a", "b"))

    assert len(groups) == 1
    assert [group.channels for group in groups.of("b")] == [("a", "b")]

    groups.leave(other, ("a", "b"))

    assert not len(groups)
    assert not list(groups.of("a"))
    assert not groups._of


def test_many_groups_of_one_channel_are_left_in_no_time() -> None:
    """To leave costs the same however many groups share a channel."""

    def seconds(count: int) -> float:
        groups = Groups()
        streams = [(joined(groups, "all", f"own-{n}"), ("all", f"own-{n}")) for n in range(count)]
        began_s = time.process_time()
        for stream, channels in reversed(streams):
            groups.leave(stream, channels)
        return time.process_time() - began_s

    # Ten times as many take ten times as long; looking through a list it was a hundred times.
    assert seconds(MANY) < 40 * max(seconds(MANY // 10), 0.001)


def test_a_channel_of_several_groups() -> None:
    """A channel's groups come and go one by one, in any order."""
    groups = Groups()
    streams = {name: joined(groups, "all", name) for name in ("a", "b", "c")}
    for name in ("b", "c", "a"):
        assert ("all", name) in [group.channels for group in groups.of("all")]

        groups.leave(streams.pop(name), ("all", name))

        assert [g.channels for g in groups.of("all")] == [("all", left) for left in streams]
    assert not groups._of


def test_a_channel_that_one_group_has_is_small() -> None:
    """A group of eight channels that nobody else reads takes about a kilobyte and a half."""
    names = [[f"{number}-{channel}" for channel in range(8)] for number in range(1000)]
    streams = [tuple(each) for each in names]
    groups = Groups()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for channels in streams:
            joined(groups, *channels)
        each_bytes = (tracemalloc.get_traced_memory()[0] - before) / len(streams)
    finally:
        tracemalloc.stop()

    # 2,900 where each channel had a dictionary of its one group.
    assert each_bytes < 2000
