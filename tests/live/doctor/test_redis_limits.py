"""What a Redis server can be short of, and what the doctor says of it."""

from __future__ import annotations

from harness.redis_server import run_redis
from live.doctor.conftest import visit

FINE = {
    "Redis lets hubs lag: client-output-buffer-limit pubsub 33554432 8388608 60",
    "Redis throws nothing away: maxmemory-policy noeviction, maxmemory unlimited",
}


def test_a_server_as_it_comes_is_fine() -> None:
    """A server with its own defaults has room for connections, for lag and for events."""
    with run_redis() as server:
        found = visit(broker_url=server.url)

    assert found.problems == []
    assert set(found.fine) >= FINE
    assert any(line.startswith("Redis has room for connections: ") for line in found.fine)


def test_each_limit_is_found() -> None:
    """Too few clients, too small a buffer and eviction are three findings with their lines."""
    options = ("--client-output-buffer-limit", "pubsub", "100kb", "50kb", "10")
    memory = ("--maxmemory", "50mb", "--maxmemory-policy", "allkeys-lru")
    with run_redis(*options, *memory, "--maxclients", "1") as server:
        found = visit(broker_url=server.url)
    mends = "\n".join(each.mend for each in found.remarks)

    assert found.problems == [
        "Redis has hardly a connection left",
        "Redis cuts hubs off too soon",
        "Redis may throw events away",
    ]
    assert "redis-cli CONFIG SET maxclients 2" in mends
    assert 'CONFIG SET client-output-buffer-limit "pubsub 33554432 8388608 60"' in mends
    assert "maxmemory-policy noeviction" in mends


def test_what_redis_does_not_say_is_not_checked() -> None:
    """A user who may not ask for settings gets the rest, and is told what was not checked."""
    with run_redis() as server:
        rules = ("allkeys", "allchannels", "+@all", "-config")
        server.ask("ACL", "SETUSER", "events", "on", ">secret", *rules)
        found = visit(broker_url=server.url.replace("//", "//events:secret@"))

    assert found.problems == []
    assert found.unknown == ["client-output-buffer-limit: Redis does not say"]
