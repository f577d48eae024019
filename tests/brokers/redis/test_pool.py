"""`redis.pool`: connections for publishing, and how long one waits for them."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from brokers.redis.at_hand import (
    Open,
    can_publish,
    publish,
    refused,
)
from flask_eventstream.brokers import Broker
from flask_eventstream.event import Event
from harness.redis_server import Proxy, RedisServer
from harness.waiting import beside_a_plain_wait, wait_until

pytestmark = pytest.mark.real


def test_publishing_opens_no_connection(server: RedisServer, redis_broker: Broker) -> None:
    """After the first event publishing opens no TCP connection, not in each mode."""
    publish(redis_broker, "a", "1")
    with server.admin as client:
        before = client.info("stats")["total_connections_received"]
        publish(redis_broker, "a", *["x"] * 100)
        redis_broker.publish_many("b", [Event("x")] * 100)
        redis_broker.end("b")

        assert client.info("stats")["total_connections_received"] == before


@pytest.mark.parametrize("used_before", [True, False], ids=["used", "fresh"])
def test_a_publish_gives_up_in_time(
    server: RedisServer, open_url: Open, *, used_before: bool
) -> None:
    """A server that answers nothing costs a publisher its timeout, and no more."""
    broker = open_url(server.url, timeout_s=0.6)
    if used_before:
        publish(broker, "a", "1")
    server.stall()
    with beside_a_plain_wait(0.6) as plain:
        began_s = time.monotonic()
        refused(broker)
        took_s = time.monotonic() - began_s
    server.resume()

    assert took_s < plain.took_s + 0.3
    wait_until(lambda: can_publish(broker), what="a publish")


def test_a_server_that_answers_slowly(
    server: RedisServer, open_url: Open, start_proxy: Callable[..., Proxy]
) -> None:
    """Where each answer trickles in, a publish fails in time as well."""
    proxy = start_proxy(server.port)
    broker = open_url(server.url_at(proxy.port), timeout_s=1)
    proxy.slow(bytes_per_s=200)
    with beside_a_plain_wait(1) as plain:
        began_s = time.monotonic()
        refused(broker)
        took_s = time.monotonic() - began_s

    assert took_s < plain.took_s + 0.3
