"""`redis.writer`: what is published is in the log once, in order, or the caller is told."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from brokers.redis.at_hand import (
    Listen,
    Open,
    publish,
    refused,
)
from flask_eventstream.brokers import Broker
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.event import Event
from harness.redis_server import Proxy, RedisServer, run_redis

pytestmark = pytest.mark.real


def test_publish_many_returns_ids_in_order(redis_broker: Broker, listen: Listen) -> None:
    """`publish_many` gives each event's id, and readers get the events in that order."""
    ear = listen(redis_broker, "a")
    events = [Event(str(n), id="own" if n == 700 else None) for n in range(1200)]

    ids = redis_broker.publish_many("a", events)

    ear.wait_heard(1200)
    assert ear.data == [event.data for event in events]
    assert ids == ["own" if n == 700 else e.position for n, e in enumerate(ear.heard)]


def test_publish_many_of_nothing(redis_broker: Broker) -> None:
    """No events are no ids."""
    assert redis_broker.publish_many("a", []) == []


def test_publish_many_is_pipelined(
    server: RedisServer, open_url: Open, start_proxy: Callable[..., Proxy]
) -> None:
    """A thousand events take far fewer round trips than events."""
    proxy = start_proxy(server.port)
    broker = open_url(server.url_at(proxy.port))
    broker.publish_many("a", [Event("x")])
    before = proxy.turns

    broker.publish_many("a", [Event("x")] * 1000)

    assert proxy.turns - before < 100


def test_publish_many_in_part(stack: ExitStack, open_url: Open) -> None:
    """Where the server takes only some of the events, `publish_many` raises."""
    server = stack.enter_context(run_redis(maxmemory="5mb"))
    broker = open_url(server.url)

    with pytest.raises(BrokerUnavailable, match="memory is full"):
        broker.publish_many("a", [Event("x" * 100_000)] * 100)

    assert 0 < server.ask("XLEN", "sse:events:{a}") < 100


def test_scripts_that_the_server_lost(server: RedisServer, redis_broker: Broker) -> None:
    """After SCRIPT FLUSH the next publish loads its script again."""
    publish(redis_broker, "a", "1")
    server.ask("SCRIPT", "FLUSH")

    publish(redis_broker, "a", "2")

    assert server.ask("XLEN", "sse:events:{a}") == 2


def test_scripts_that_the_server_loses_all_the_time(
    server: RedisServer, redis_broker: Broker
) -> None:
    """Whenever the script is flushed, each event is in the log once, in order, with its id."""
    over = threading.Event()

    def flush() -> None:
        with server.admin as client:
            while not over.wait(0.002):
                client.script_flush()

    flushing = threading.Thread(target=flush)
    flushing.start()
    try:
        ids = [
            position
            for _ in range(30)
            for position in redis_broker.publish_many("a", [Event("x")] * 250)
        ]
    finally:
        over.set()
        flushing.join()

    with server.admin as client:
        logged = [row_id.partition("-")[0] for row_id, _ in client.xrange("sse:events:{a}")]
    assert len(logged) > 900  # what the history keeps
    assert [position.partition("-")[2] for position in ids][-len(logged) :] == logged
    assert [int(position.partition("-")[2]) for position in ids] == sorted(
        {int(position.partition("-")[2]) for position in ids}
    )


def test_a_batch_is_in_the_log_as_a_whole(
    server: RedisServer, redis_broker: Broker, listen: Listen
) -> None:
    """However many come at once, the history is bounded, and readers get all that is in it."""
    ear = listen(redis_broker, "a")
    redis_broker.publish_many("a", [Event(str(n)) for n in range(3000)])
    ear.wait_heard(3000)

    assert ear.data == [str(n) for n in range(3000)]
    assert 1000 <= server.ask("XLEN", "sse:events:{a}") <= 1125


@pytest.mark.parametrize("size", [100_000, 300_000])
def test_large_events_go_in_small_batches(
    server: RedisServer, redis_broker: Broker, size: int
) -> None:
    """Events of many bytes go few at a time, so that the server is not held up."""
    redis_broker.publish("a", Event("x"))

    redis_broker.publish_many("a", [Event("x" * size)] * 6)

    calls = server.info("commandstats")["cmdstat_evalsha"]["calls"]
    assert calls == (3 if size == 100_000 else 6)


def test_nothing_is_published_twice(
    server: RedisServer, open_url: Open, start_proxy: Callable[..., Proxy]
) -> None:
    """An event whose answer was lost on the way is in the log, and is never sent again."""
    answer = re.compile(rb"\$[0-9]+\r\n[0-9a-f]{8}-[0-9]+\r\n")
    proxy = start_proxy(server.port, rewrite=lambda said: answer.sub(b"", said))

    refused(open_url(server.url_at(proxy.port), timeout_s=0.6))

    assert server.ask("XLEN", "sse:events:{a}") == 1
