"""`redis.scripts`: what lies in the server, under which keys, for how long."""

from __future__ import annotations

import pytest

from brokers.redis.at_hand import (
    SLACK_S,
    Listen,
    Open,
    keys,
    publish,
)
from brokers.stores import RedisClock
from flask_eventstream.brokers import Broker
from flask_eventstream.brokers.redis.answers import RunInfo, opening_arguments
from flask_eventstream.brokers.redis.scripts import OPEN
from flask_eventstream.log.entries import Retention
from harness.redis_server import RedisServer
from harness.waiting import wait_until

pytestmark = pytest.mark.real


def test_keys_have_the_prefix(server: RedisServer, redis_broker: Broker, listen: Listen) -> None:
    """Publishing, reading and ending leave keys with the prefix, and no other."""
    ear = listen(redis_broker, "a")
    publish(redis_broker, "a", "1")
    redis_broker.end("b")
    ear.wait_heard(1)

    assert sorted(keys(server)) == [
        *("sse:channel:{a}", "sse:channel:{b}", "sse:events:{a}", "sse:events:{b}"),
        "sse:log",
    ]


def test_the_prefix_can_be_chosen(server: RedisServer, open_url: Open) -> None:
    """`?prefix=` in the URL is the prefix of all keys."""
    publish(open_url(f"{server.url}?prefix=shop%3A"), "a", "1")

    assert sorted(keys(server)) == ["shop:channel:{a}", "shop:events:{a}", "shop:log"]


def test_everything_but_the_log_expires(server: RedisServer, open_url: Open) -> None:
    """A channel that was used once leaves nothing for ever: events for an age, its state for 30.

    Events get an eighth more, so that not every event has to put their end off.
    """
    publish(open_url(server.url, Retention(age_s=100)), "a", "1")

    left_ms = keys(server)

    assert left_ms["sse:log"] == -1
    assert 111_500 - SLACK_S * 1000 < left_ms["sse:events:{a}"] <= 112_500
    assert 2_999_000 - SLACK_S * 1000 < left_ms["sse:channel:{a}"] <= 3_000_000


def test_events_that_come_put_the_end_off(server: RedisServer, open_url: Open) -> None:
    """An event that comes when others expire soon is kept for an age of its own."""
    broker = open_url(server.url, Retention(age_s=100))
    publish(broker, "a", "1")
    with server.admin as client:
        client.pexpire("sse:events:{a}", 100_000)
        client.pexpire("sse:channel:{a}", 100_000)
    publish(broker, "a", "2")

    left_ms = keys(server)

    assert left_ms["sse:events:{a}"] > 100_000
    assert left_ms["sse:channel:{a}"] > 2_000_000


@pytest.mark.parametrize("length", [0, 1, 7, 16, 100])
def test_the_history_is_bounded(server: RedisServer, open_url: Open, length: int) -> None:
    """After each event a channel has at most its history's length and an eighth."""
    broker = open_url(server.url, Retention(length=length))
    with server.admin as client:
        for number in range(3 * length + 3):
            publish(broker, "a", str(number))

            assert client.xlen("sse:events:{a}") <= length + length // 8


def test_a_busy_channel_drops_what_is_too_old(server: RedisServer, open_url: Open) -> None:
    """Where events keep coming, so that the key never expires, old ones are removed too."""
    broker = open_url(server.url, Retention(age_s=60))
    publish(broker, "a", *map(str, range(50)))
    RedisClock(server).advance(61)
    with server.admin as client:
        client.persist("sse:events:{a}")
        publish(broker, "a", *map(str, range(16)))

        assert client.xlen("sse:events:{a}") <= 16


def test_a_log_whose_hash_was_removed(
    server: RedisServer, redis_broker: Broker, listen: Listen
) -> None:
    """Where only the log's own key is lost, publishing goes on, and old positions mean nothing."""
    ear = listen(redis_broker, "a")
    (position, _) = publish(redis_broker, "a", "1", "2")
    # Or nobody could tell any more that they were of this log, and of no other database's.
    ear.wait_heard(2)
    server.ask("DEL", "sse:log")
    publish(redis_broker, "a", "3")

    ear.wait_heard(3)

    assert ear.data == ["1", "2", "3"]
    assert ear.replay("a", after=position).gone == {"a"}


def test_sixteen_epochs_are_remembered(server: RedisServer) -> None:
    """The log remembers where the last sixteen epochs ended, and no more."""
    with server.admin as client:
        for number in range(20):
            run = RunInfo(f"run-{number}", lossless=True)
            epoch = f"epoch{number:03}"
            arguments = opening_arguments(run, epoch=epoch, retention=None, is_cluster=False)
            client.eval(OPEN, 1, "sse:log", *arguments)
        past = client.hget("sse:log", "past")

    assert [one.partition(":")[0] for one in past.split()] == [
        f"epoch{number:03}" for number in range(18, 2, -1)
    ]


def test_sequences_grow_on_after_a_flush(server: RedisServer, redis_broker: Broker) -> None:
    """In a log that was emptied no sequence comes again: readers on their way compare them."""
    sequences = []
    for _ in range(5):
        sequences += [int(p.rpartition("-")[2]) for p in publish(redis_broker, "a", "1", "2")]
        server.ask("FLUSHALL")
        # A new log begins at the present millisecond.
        with server.admin as client:
            began = client.time()
            wait_until(lambda: client.time() > (began[0], began[1] + 5000), what="a few ms")  # noqa: B023

    assert sequences == sorted(set(sequences))
