"""Redis URLs: one server, Sentinels, clusters, and what can be wrong with them."""

from __future__ import annotations

import pytest

from flask_eventstream.brokers.redis.slots import Slots, check_cluster_channel
from flask_eventstream.brokers.redis.url import RedisUrl
from flask_eventstream.errors import InvalidChannel, InvalidConfig


def parse(url: str) -> RedisUrl:
    return RedisUrl.parse(url, key="SSE_BROKER_URL")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://localhost", "redis://localhost"),
        ("redis://me:secret@host:7000/3", "redis://host:7000/3"),
        ("rediss://:secret@host/0?ssl_cert_reqs=none", "rediss://host/0"),
        ("redis+sentinel://:secret@one:1,two:2/mine/0", "redis+sentinel://one:1,two:2/mine/0"),
        ("redis+cluster://me:secret@one,two", "redis+cluster://one,two"),
    ],
)
def test_a_password_is_never_shown(url: str, shown: str) -> None:
    """What is shown of a URL is where the server is, without user, password and options."""
    assert parse(url).shown == shown


def test_a_prefix_is_ours_and_not_the_clients() -> None:
    """The prefix is taken out of the URL; the rest is for the client."""
    url = parse("redis://host/0?prefix=shop:&socket_keepalive=1")

    assert (url.prefix, url.plain) == ("shop:", "redis://host/0?socket_keepalive=1")


def test_sentinels_are_taken_apart() -> None:
    """Addresses, service, database, user and password are where the client wants them."""
    url = parse("redis+sentinel://me:p%40ss@one:1,[::1]:2,three/mine/4")

    assert url.addresses == [("one", 1), ("::1", 2), ("three", 26379)]
    assert url.service == "mine"
    assert url.options == {"ssl": False, "username": "me", "password": "p@ss", "db": 4}
    assert not url.is_cluster


def test_sentinels_may_want_a_password_of_their_own() -> None:
    """What Sentinels want to know is not what their servers want to know."""
    url = parse("redis+sentinel://:inner@one/mine?sentinel_username=me&sentinel_password=outer")

    assert url.sentinel_options == {"ssl": False, "username": "me", "password": "outer"}
    assert url.options["password"] == "inner"


def test_a_cluster_is_taken_apart() -> None:
    """A cluster has nodes, and neither a service nor a database."""
    url = parse("rediss+cluster://one,two:7001")

    assert url.addresses == [("one", 6379), ("two", 7001)]
    assert url.options == {"ssl": True}
    assert url.is_cluster


@pytest.mark.parametrize("where", ["cluster://one", "sentinel://one/mine"])
def test_tls_is_for_every_server(where: str) -> None:
    """Nodes, Sentinels and their servers are spoken to by TLS, and are to show who they are."""
    query = "ssl_ca_certs=/ca.pem&ssl_cert_reqs=optional&ssl_check_hostname=false"
    url = parse(f"rediss+{where}?{query}&ssl_certfile=/c.pem&ssl_keyfile=/k.pem")
    tls = {
        "ssl": True,
        "ssl_ca_certs": "/ca.pem",
        "ssl_cert_reqs": "optional",
        "ssl_check_hostname": False,
        "ssl_certfile": "/c.pem",
        "ssl_keyfile": "/k.pem",
    }

    assert url.sentinel_options == tls
    assert {name: url.options[name] for name in tls} == tls


@pytest.mark.parametrize("where", ["://host", "+cluster://one", "+sentinel://one/mine"])
def test_celerys_words_for_certificates(where: str) -> None:
    """What Celery demands in a URL that it shares is taken: Python's names of what is checked."""
    for said, meant in (("CERT_NONE", "none"), ("CERT_REQUIRED", "required")):
        url = parse(f"rediss{where}?ssl_cert_reqs={said}")

        assert url.options["ssl_cert_reqs"] == meant


def test_a_client_of_ones_own() -> None:
    """An application's client is made as redis-py makes it of the URL, without what is ours."""
    url = parse("redis://me:secret@host:7000/3?prefix=x&decode_responses=True&socket_timeout=7")
    client = url.own_client()
    options = client.connection_pool.connection_kwargs

    assert [options[name] for name in ("host", "port", "db")] == ["host", 7000, 3]
    assert (options["username"], options["password"]) == ("me", "secret")
    assert options["socket_timeout"] == 7
    assert "prefix" not in options


@pytest.mark.parametrize(
    ("url", "prefix"),
    [("redis://host", ""), ("redis://host?prefix=sse:", ""), ("redis://host?prefix=s:", "s:")],
)
def test_a_prefix_of_pubsub_channels(url: str, prefix: str) -> None:
    """Channels have a prefix where one was chosen, and bare names else."""
    assert parse(url).channel_prefix == prefix


@pytest.mark.parametrize(
    ("url", "replicas"),
    [
        ("redis://host", 0),
        ("redis://host?replicas=2", 2),
        ("redis+sentinel://one/mine", 1),
        ("redis+cluster://one", 1),
        ("redis+cluster://one?replicas=0", 0),
    ],
)
def test_a_replica_confirms_where_there_is_one(url: str, replicas: int) -> None:
    """One server confirms alone; where a failover could lose an event, a replica must too."""
    assert parse(url).replicas == replicas


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("redis://host/0?prefix={x}", "SSE_BROKER_URL has the prefix '{x}': braces mean"),
        ("redis://host:port/0", "SSE_BROKER_URL is no Redis URL: "),
        ("redis://:x[@host", "SSE_BROKER_URL is no Redis URL: 'redis://host': the form is"),
        ("redis://one,two", "SSE_BROKER_URL is no Redis URL: 'redis://one,two': the form is"),
        ("redis://host/abc", "SSE_BROKER_URL is 'redis://host/abc', and a database is a number"),
        ("redis://host/0/1", "SSE_BROKER_URL is 'redis://host/0/1', and a database is a number"),
        ("unix://", "SSE_BROKER_URL names no socket: write unix:///path/of/redis.sock"),
        (
            "redis://host?foo=bar",
            "SSE_BROKER_URL has the unknown option 'foo' in its query: there are prefix, replicas,",
        ),
        ("redis://host?db=x", "SSE_BROKER_URL has options that redis-py refuses: db"),
        ("redis://host?ssl_ca_certs=x", "SSE_BROKER_URL has ssl_ca_certs, but no TLS: write"),
        ("redis+cluster://one:0", "SSE_BROKER_URL has the port 0: it must be 1 to 65535"),
        ("redis+sentinel://one:1", "SSE_BROKER_URL does not name the service: write redis+sent"),
        ("redis+sentinel://one:1/mine/x", "SSE_BROKER_URL has a database that is no number"),
        ("redis+sentinel://:1/mine", "SSE_BROKER_URL names a port without its host"),
        ("redis+cluster://one:x", "SSE_BROKER_URL has a port that is no number"),
        ("redis+cluster://one/0", "SSE_BROKER_URL names a database, and a cluster has none"),
        ("redis+cluster://one?speed=1", "SSE_BROKER_URL has the unknown option 'speed'"),
        ("redis+cluster://one?ssl_ca_certs=x", "SSE_BROKER_URL has ssl_ca_certs, but no TLS"),
        (
            "rediss+cluster://one?ssl_cert_reqs=maybe",
            "SSE_BROKER_URL has ssl_cert_reqs=maybe: it must be none or optional or required",
        ),
        (
            "rediss+sentinel://one/mine?ssl_check_hostname=0",
            "SSE_BROKER_URL has ssl_check_hostname=0: it must be true or false",
        ),
        ("redis://host?replicas=many", "SSE_BROKER_URL has replicas=many: it must be a whole"),
    ],
)
def test_a_mistake_is_named(url: str, problem: str) -> None:
    """What is wrong with a URL is said, with the key that it came from."""
    with pytest.raises(InvalidConfig) as caught:
        parse(url)

    assert caught.value.problems[0].startswith(problem)


def test_slots_have_homes() -> None:
    """A channel is with the primary of its slot, which may leave its own name empty."""
    slots = Slots.parse(
        [
            [0, 8191, [b"10.0.0.1", 7000, b"id", []], [b"10.0.0.9", 7009, b"id", []]],
            [8192, 16383, [b"", 7001, b"id", []]],
        ],
        "asked",
    )

    # CLUSTER KEYSLOT: a is 15495, b is 3300.
    assert (slots.home_of("a"), slots.home_of("b")) == (("asked", 7001), ("10.0.0.1", 7000))
    assert set(slots.addresses) == {("asked", 7001), ("10.0.0.1", 7000)}


def test_a_slot_may_have_no_home() -> None:
    """While a cluster is put together, or lost a node for good, a slot has none."""
    slots = Slots.parse([[0, 8191, [b"one", 7000]]], "asked")

    assert slots.home_of("a") is None


@pytest.mark.parametrize("channel", ["{a}", "a{", "}"])
def test_braces_are_refused_in_a_cluster(channel: str) -> None:
    """A channel with braces would lie in another slot than its keys."""
    with pytest.raises(InvalidChannel, match="has braces"):
        check_cluster_channel(channel)
