"""`redis.pages`: reading logs, over few connections."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from brokers.redis.at_hand import (
    Listen,
    Open,
    publish,
)
from flask_eventstream.brokers import Broker
from flask_eventstream.log.entries import Retention
from harness.redis_server import Proxy, RedisServer, run_redis
from harness.waiting import wait_until

pytestmark = pytest.mark.real


def test_many_readers_at_once_share_few_connections(
    server: RedisServer, redis_broker: Broker, listen: Listen
) -> None:
    """Hundreds of readers that begin at the same time are one subscription and a few pages."""
    publish(redis_broker, "a", "1")
    ear = listen(redis_broker)
    readers = [ear.attach("a") for _ in range(300)]
    wait_until(lambda: all(reader.live for reader in readers), what="all to be live")

    # The broker's own publishing connection is one of them.
    assert len(server.clients("pubsub")) == 1
    assert len(server.clients("normal")) <= 1 + 8


def test_what_was_trimmed_meanwhile_is_said(
    stack: ExitStack, open_url: Open, listen: Listen, start_proxy: Callable[..., Proxy]
) -> None:
    """A listener that missed more than the history keeps says which channel lost something."""
    server = stack.enter_context(run_redis())
    proxy = start_proxy(server.port)
    ear = listen(open_url(server.url_at(proxy.port), Retention(length=10)), "busy", "calm")
    publisher = open_url(server.url)
    publish(publisher, "busy", "0")
    publish(publisher, "calm", "0")
    ear.wait_heard(2)
    proxy.cut()
    publish(publisher, "busy", *map(str, range(1, 100)))
    publish(publisher, "calm", "1")
    proxy.mend()

    ear.wait_heard_data("99")
    wait_until(lambda: ear.heard[-1].channel == "calm", what="the calm channel's event")

    assert [set(channels or ()) for channels, _ in ear.interruptions] == [{"busy"}]
    assert [e.event.data for e in ear.heard if e.channel == "calm" and e.event] == ["0", "1"]
