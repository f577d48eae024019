"""`flask_eventstream.doctor.redis_limits`: which limits of a Redis server are too narrow."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_eventstream.doctor.redis_limits import examine_redis
from flask_eventstream.doctor.remedies import Level

EVENT_BYTES = 4 << 20


def problems(says: Mapping[str, str]) -> list[str]:
    remarks = examine_redis(says, EVENT_BYTES)
    return [each.headline for each in remarks if each.level is Level.PROBLEM]


@pytest.mark.parametrize(
    ("says", "found"),
    [
        ({}, []),
        ({"connected_clients": "79", "maxclients": "100"}, []),
        ({"connected_clients": "80", "maxclients": "100"}, ["Redis has hardly a connection left"]),
        ({"connected_clients": "many", "maxclients": "-1"}, []),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": "0"}, []),
        ({"maxmemory_policy": "noeviction", "maxmemory": "9"}, []),
        ({"maxmemory_policy": "volatile-ttl", "maxmemory": "9"}, ["Redis may throw events away"]),
    ],
)
def test_connections_and_memory(says: dict[str, str], found: list[str]) -> None:
    """Connections are short where four fifths are used, and memory where something is evicted."""
    assert problems(says) == found


@pytest.mark.parametrize(
    ("limits", "is_short"),
    [
        ("normal 0 0 0 pubsub 33554432 8388608 60", False),
        ("pubsub 0 0 0 normal 0 0 0", False),
        ("pubsub 8388608 4194304 60", False),
        ("pubsub 8388607 4194304 60", True),
        ("pubsub 8388608 4194303 60", True),
        ("normal 0 0 0", False),
        ("pubsub 1mb 1mb 60", False),
        ("pubsub 1", False),
        ("pubsub", False),
    ],
)
def test_the_buffer(limits: str, is_short: bool) -> None:  # noqa: FBT001
    """A limit is too small where one event as large as may be would exceed it."""
    found = problems({"client-output-buffer-limit": limits})

    assert found == (["Redis cuts hubs off too soon"] if is_short else [])


@given(
    st.dictionaries(
        st.sampled_from(
            ["connected_clients", "maxclients", "client-output-buffer-limit", "maxmemory"]
        ),
        st.text() | st.just("pubsub ² 1 1"),
    )
)
def test_whatever_redis_says(says: dict[str, str]) -> None:
    """A server that speaks otherwise, or a proxy before it, is no error: three lines, always."""
    assert len(list(examine_redis(says, EVENT_BYTES))) == 3
