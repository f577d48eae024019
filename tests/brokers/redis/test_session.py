"""`redis.session`: a connection that breaks is followed by one that makes up for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from brokers.hearing import Loop
from brokers.redis.at_hand import (
    Listen,
    Open,
    publish,
)
from flask_eventstream.brokers import Broker
from flask_eventstream.brokers.redis import following
from flask_eventstream.event import Event
from flask_eventstream.log.entries import Retention
from harness.redis_server import Proxy, RedisServer

pytestmark = pytest.mark.real


def test_a_broken_connection_is_not_mended_behind_the_session(
    server: RedisServer, redis_broker: Broker, listen: Listen, loop: Loop
) -> None:
    """Subscribing in the moment of a break leaves no second connection that nobody reads."""
    ear = listen(redis_broker, "a")
    listener: Any = ear.listener

    async def break_and_come() -> None:
        await listener._session._connection.disconnect(nowait=True)
        await listener.subscribe(["b"])

    loop.run(break_and_come())
    publish(redis_broker, "b", "1")

    ear.wait_heard(1)
    assert len(server.clients("pubsub")) == 1


def test_a_message_held_too_long_begins_a_new_session(
    redis_broker: Broker, server: RedisServer, listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where more comes than can be held while a session catches up, nothing is lost either."""
    monkeypatch.setattr(following, "_MAX_HELD", 5)
    ear = listen(redis_broker, "a")
    publish(redis_broker, "a", "0")
    ear.wait_heard(1)
    server.ask("CLIENT", "KILL", "TYPE", "pubsub")
    redis_broker.publish_many("a", [Event(str(n)) for n in range(1, 900)])

    ear.wait_heard(900)

    assert ear.data == [str(n) for n in range(900)]
    assert not ear.interruptions


def test_a_long_outage_is_made_up_page_by_page(
    server: RedisServer, open_url: Open, listen: Listen, start_proxy: Callable[..., Proxy]
) -> None:
    """After a break over hundreds of events on two channels each comes once, and no reset."""
    proxy = start_proxy(server.port)
    ear = listen(open_url(server.url_at(proxy.port), Retention(length=700)), "a", "b")
    publisher = open_url(server.url)
    publish(publisher, "a", "first")
    publish(publisher, "b", "first")
    ear.wait_heard(2)
    proxy.cut()
    # The second channel is trimmed up to what was delivered: pages must not go back behind it.
    publisher.publish_many("a", [Event(f"a{n}") for n in range(700)])
    publisher.publish_many("b", [Event(f"b{n}") for n in range(700)])
    proxy.mend()

    ear.wait_heard_data("b699")

    assert ear.data[2:] == [*(f"a{n}" for n in range(700)), *(f"b{n}" for n in range(700))]
    assert not ear.interruptions
