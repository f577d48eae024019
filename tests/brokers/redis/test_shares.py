"""`redis.shares`: what lies in the server, and what it costs when a process dies."""

from __future__ import annotations

from typing import Any

import pytest

from flask_eventstream.brokers.redis.shares import share_command, shares_command, unshare_command
from harness.redis_server import RedisServer
from harness.waiting import wait_until

pytestmark = pytest.mark.real


def share(server: RedisServer, owner: str, for_s: float = 60, **changed: str) -> Any:
    """Say the whole of what an owner has."""
    return server.ask(*share_command("owners", owner, changed, for_s=for_s, whole=True))


def test_each_owner_has_a_hash_that_expires(server: RedisServer) -> None:
    """An owner's hash is named by it, and it and the list of owners have the time that was told."""
    share(server, "one", a="1")

    assert sorted(server.ask("KEYS", "*")) == ["owners", "owners:one"]
    assert 59_000 < server.ask("PTTL", "owners:one") <= 60_000
    assert 59_000 < server.ask("PTTL", "owners") <= 60_000


def test_a_dead_owner_is_taken_off_the_list(server: RedisServer) -> None:
    """Who reads a channel forgets an owner whose hash has expired, and no other."""
    share(server, "one", 0.01, a="1")
    share(server, "other", b="2")
    wait_until(lambda: not server.ask("EXISTS", "owners:one"), what="the end of its time")

    assert server.ask(*shares_command("owners", "a")) == []
    assert list(server.ask("SMEMBERS", "owners")) == ["other"]


def test_an_owner_that_leaves_leaves_nothing(server: RedisServer) -> None:
    """After a goodbye there is no key of the owner."""
    share(server, "one", a="1")
    server.ask(*unshare_command("owners", "one"))

    assert server.ask("KEYS", "*") == []
