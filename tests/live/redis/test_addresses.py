"""Ways to a Redis server: TLS, a user and a database, each from a page to a real worker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from flask_eventstream import BrokerUnavailable, Publisher
from harness.certificate import make_certificate
from harness.redis_many import run_cluster, run_sentinels
from harness.redis_server import HOST, RedisServer
from harness.servers import Server
from harness.streams import Reader
from harness.waiting import wait_until

StartRedis = Callable[..., RedisServer]
StartHub = Callable[..., Server]


def assert_works(url: str, start_hub: StartHub) -> None:
    """A reader gets what is published, live and after it was away."""
    hub = start_hub(url)
    publisher = Publisher(url)
    with Reader(f"{hub.url}/stream?channel=a") as reader:
        wait_until(lambda: reader.comments, what="the first byte")
        publisher.publish("live", channel="a")
        live = reader.next_event()
    publisher.publish("missed", channel="a")
    with Reader(f"{hub.url}/stream?channel=a", {"Last-Event-ID": live["id"]}) as reader:
        missed = reader.next_event()

    assert (live["data"], missed["data"]) == ("live", "missed")


def without_authority(url: str) -> str:
    """A URL that does not say whose certificates are to be trusted."""
    return url.partition("?")[0]


def test_tls(start_redis: StartRedis, start_hub: StartHub, tmp_path: Path) -> None:
    """`rediss://` reads and publishes over TLS, and checks the server's certificate."""
    made = make_certificate(tmp_path)
    port = start_redis(certificate=made).port

    assert_works(f"rediss://{HOST}:{port}/0?ssl_ca_certs={made.certificate}", start_hub)
    with pytest.raises(BrokerUnavailable, match="certificate verify failed"):
        Publisher(f"rediss://{HOST}:{port}/0").publish("x")


def test_tls_behind_sentinels(start_hub: StartHub, tmp_path: Path) -> None:
    """`rediss+sentinel://` speaks TLS with Sentinels and their servers, which speak nothing else.

    It checks their certificate.
    """
    with run_sentinels(make_certificate(tmp_path)) as watched:
        assert_works(watched.url, start_hub)
        with pytest.raises(BrokerUnavailable, match="nobody known signed its certificate"):
            Publisher(without_authority(watched.url)).publish("x")


def test_tls_in_a_cluster(start_hub: StartHub, tmp_path: Path) -> None:
    """`rediss+cluster://` speaks TLS with nodes that speak nothing else, and checks them."""
    with run_cluster(make_certificate(tmp_path)) as cluster:
        assert_works(cluster.url, start_hub)
        with pytest.raises(BrokerUnavailable, match="certificate verify failed"):
            Publisher(without_authority(cluster.url)).publish("x")


def test_a_user_with_a_password_and_a_database(
    start_redis: StartRedis, start_hub: StartHub
) -> None:
    """User, password and database in the URL are used on both sides, and the keys lie there."""
    server = start_redis("--user", "shop", "on", ">p@ss", "~*", "&*", "+@all")

    assert_works(f"redis://shop:p%40ss@{HOST}:{server.port}/3", start_hub)
    assert server.info("keyspace").keys() == {"db3"}
