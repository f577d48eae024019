"""Groups of streams: found by what they read, and left at once."""

from __future__ import annotations

import time
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
