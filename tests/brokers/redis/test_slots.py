"""`redis.slots`: which node of a cluster has which channel."""

from __future__ import annotations

import pytest

from flask_eventstream.brokers.redis.slots import Slots, check_cluster_channel
from flask_eventstream.errors import InvalidChannel

# "a" lies in slot 15495, "b" in 3300 and "c" in 7365 (CLUSTER KEYSLOT).
ANSWER = [
    [5461, 10922, [b"10.0.0.2", 7001, b"id"], [b"10.0.0.5", 7004, b"id"]],
    [0, 5460, [b"", 7000, b"id"]],
    [10923, 16383, [b"10.0.0.3", 7002, b"id"]],
]


def test_a_channel_has_a_home() -> None:
    """Each channel is at the primary that has its slot; a node without a name is the asked one."""
    slots = Slots.parse(ANSWER, "10.0.0.1")

    assert [slots.home_of(channel) for channel in "abc"] == [
        ("10.0.0.3", 7002),
        ("10.0.0.1", 7000),
        ("10.0.0.2", 7001),
    ]
    assert slots.addresses == {("10.0.0.1", 7000), ("10.0.0.2", 7001), ("10.0.0.3", 7002)}


def test_a_slot_that_no_node_has() -> None:
    """A channel whose slot nobody has is nowhere."""
    assert Slots.parse(ANSWER[:1], "h").home_of("a") is None
    assert Slots.parse([], "h").home_of("a") is None


@pytest.mark.parametrize("channel", ["{a}b", "a{", "}"])
def test_braces_are_refused(channel: str) -> None:
    """Braces pick the part of a name that counts, so they are refused by name."""
    with pytest.raises(InvalidChannel, match="braces"):
        check_cluster_channel(channel)


def test_other_names_are_taken() -> None:
    """Any other name is taken as it is."""
    assert check_cluster_channel("orders:42") == "orders:42"
