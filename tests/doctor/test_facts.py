"""`flask_eventstream.doctor.facts`: whose word counts where server and command differ."""

from __future__ import annotations

import pytest

from flask_eventstream.doctor.facts import AppFacts, StreamFacts


def an_app(broker: str = "sqlite:////srv/events.db") -> AppFacts:
    return AppFacts(
        broker=broker,
        app="shop:app",
        path="/stream",
        heartbeat_s=15.0,
        lifetime_s=3600.0,
        max_event_bytes=1000,
    )


@pytest.mark.parametrize(
    ("told", "heartbeat_s", "lifetime_s"),
    [({}, 15.0, 3600.0), ({"heartbeat_s": 5}, 5.0, 3600.0), ({"lifetime_s": 20.0}, 15.0, 20.0)],
)
def test_the_server_knows_better(
    told: dict[str, float], heartbeat_s: float, lifetime_s: float
) -> None:
    """What the server says of itself counts, and where it says nothing, this command's settings."""
    seen = StreamFacts(
        url="http://a/s?channel=b",
        asked="http://a/s",
        host="a",
        port=80,
        should_be="http://a/stream",
        channel="b",
        waited_s=5.0,
        told=told,
    )

    assert (seen.heartbeat_s(an_app()), seen.lifetime_s(an_app())) == (heartbeat_s, lifetime_s)


@pytest.mark.parametrize(
    ("broker", "is_memory"),
    [("memory://", True), ("sqlite:////memory:.db", False), ("redis://memory:6379", False)],
)
def test_which_log_is_in_memory(broker: str, is_memory: bool) -> None:  # noqa: FBT001
    """Only `memory://` can't be reached from another process."""
    assert an_app(broker).is_memory == is_memory
