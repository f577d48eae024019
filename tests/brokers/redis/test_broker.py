"""What is special about the Redis broker. What all brokers do is in test_contract.py."""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from brokers.hearing import Ear, Loop
from brokers.stores import RedisClock
from flask_eventstream.brokers import Broker, broker_from_url
from flask_eventstream.brokers.redis import following
from flask_eventstream.brokers.redis import listener as redis_feed
from flask_eventstream.brokers.redis.answers import RunInfo, opening_arguments
from flask_eventstream.brokers.redis.scripts import OPEN, Script
from flask_eventstream.errors import BrokerUnavailable, InvalidChannel
from flask_eventstream.event import Event
from flask_eventstream.log.entries import CONTROL_CHANNEL, Kind, Retention
from flask_eventstream.log.position import Position
from flask_eventstream.publisher import Publisher
from harness.redis_server import Proxy, RedisServer, run_proxy, run_redis
from harness.stage import has_ended
from harness.waiting import wait_until

pytestmark = pytest.mark.real

Listen = Callable[..., Ear]
Open = Callable[..., Broker]

# What a busy machine adds to a timeout.
SLACK_S = 1.0


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def server(stack: ExitStack) -> RedisServer:
    """A server without persistence."""
    return stack.enter_context(run_redis())


@pytest.fixture
def open_url(stack: ExitStack) -> Open:
    """A broker of a URL, closed with the test."""

    def open_url(url: str, retention: Retention | None = None, timeout_s: float = 5) -> Broker:
        broker = broker_from_url(url, retention=retention, timeout_s=timeout_s)
        stack.callback(broker.close)
        return broker

    return open_url


@pytest.fixture
def redis_broker(server: RedisServer, open_url: Open) -> Broker:
    return open_url(server.url)


@pytest.fixture
def start_proxy(stack: ExitStack) -> Callable[..., Proxy]:
    return lambda port, **more: stack.enter_context(run_proxy(port, **more))


def publish(broker: Broker, channel: str, *texts: str) -> list[str]:
    return [broker.publish(channel, Event(text)) for text in texts]


def keys(server: RedisServer) -> dict[str, int]:
    """Each key, and the milliseconds that it has to live; -1 for one that stays."""
    with server.admin as client:
        return {key: client.pttl(key) for key in client.scan_iter()}


def refused(broker: Broker) -> BrokerUnavailable:
    with pytest.raises(BrokerUnavailable) as caught:
        broker.publish("a", Event("x"))
    return caught.value


def can_publish(broker: Broker) -> bool:
    try:
        broker.publish("a", Event("x"))
    except BrokerUnavailable:
        return False
    return True


def says_version(version: bytes) -> Callable[[bytes], bytes]:
    """For a proxy: the server says that it is this version. No answer changes its length."""
    said = re.compile(rb"(?<=redis_version:)[0-9]+[.][0-9]+")
    return lambda answer: said.sub(lambda real: version.rjust(len(real[0]), b"0"), answer)


# ---- keys


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
    server.ask("DEL", "sse:log")
    publish(redis_broker, "a", "3")

    ear.wait_heard(3)

    assert ear.data == ["1", "2", "3"]
    assert ear.replay("a", after=position).gone == {"a"}


# ---- runs of the server


def test_positions_survive_a_restart_with_a_file(
    stack: ExitStack, open_url: Open, listen: Listen
) -> None:
    """With an append-only file a reader resumes over a restart, and misses nothing."""
    server = stack.enter_context(run_redis(aof=True))
    broker = open_url(server.url)
    (position, _) = publish(broker, "a", "1", "2")
    server.restart()
    publish(broker, "a", "3")

    replay = listen(broker).replay("a", after=position)

    assert [entry.event.data for entry in replay.entries if entry.event] == ["2", "3"]
    assert not replay.gone


def test_positions_beyond_a_restart_mean_nothing(
    stack: ExitStack, open_url: Open, listen: Listen
) -> None:
    """A position that the restarted server had not reached is no position of the new epoch."""
    server = stack.enter_context(run_redis(aof=True))
    broker = open_url(server.url)
    (position,) = publish(broker, "a", "1")
    epoch, _, sequence = position.rpartition("-")
    server.restart()
    publish(broker, "a", "2", "3")

    assert listen(broker).replay("a", after=f"{epoch}-{int(sequence) + 1}").gone == {"a"}


def test_a_script_that_outlives_its_run(
    stack: ExitStack, open_url: Open, listen: Listen, start_proxy: Callable[..., Proxy]
) -> None:
    """Before Redis 7 a restarted server knows the script: it publishes nothing into the old epoch.

    Else it would give out the sequences of what it lost a second time, and nobody would know.
    """
    server = stack.enter_context(run_redis(aof=True))
    broker = open_url(server.url_at(start_proxy(server.port, rewrite=says_version(b"6.2")).port))
    (position,) = publish(broker, "a", "1")
    epoch, _, sequence = position.rpartition("-")
    text = Script.of(server.info("server")["run_id"], may_outlive=True).text
    server.restart()
    server.ask("SCRIPT", "LOAD", text)
    publish(broker, "a", "2", "3")

    assert listen(broker).replay("a", after=f"{epoch}-{int(sequence) + 1}").gone == {"a"}


def test_positions_end_with_a_server_that_keeps_nothing(
    server: RedisServer, redis_broker: Broker, listen: Listen
) -> None:
    """Without a file each reader is told after a restart, whatever was published since."""
    (position,) = publish(redis_broker, "a", "1")
    server.restart()
    publish(redis_broker, "a", "2")

    assert listen(redis_broker).replay("a", after=position).gone == {"a"}


def test_what_a_snapshot_lacks_is_gone(stack: ExitStack, open_url: Open, listen: Listen) -> None:
    """A server that comes back with an older snapshot has lost events, and each reader is told."""
    server = stack.enter_context(run_redis())
    broker = open_url(server.url)
    (position,) = publish(broker, "a", "1")
    server.ask("SAVE")
    publish(broker, "a", "2")
    server.kill()
    server.start()
    publish(broker, "a", "3")

    assert server.ask("XLEN", "sse:events:{a}") == 2
    assert listen(broker).replay("a", after=position).gone == {"a"}


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


# ---- publishing


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


def test_publishing_opens_no_connection(server: RedisServer, redis_broker: Broker) -> None:
    """After the first event publishing opens no TCP connection, not in each mode."""
    publish(redis_broker, "a", "1")
    with server.admin as client:
        before = client.info("stats")["total_connections_received"]
        publish(redis_broker, "a", *["x"] * 100)
        redis_broker.publish_many("b", [Event("x")] * 100)
        redis_broker.end("b")

        assert client.info("stats")["total_connections_received"] == before


def test_a_dropped_publisher_gives_its_connection_back(server: RedisServer) -> None:
    """A publisher that was made for one event and never closed leaves nothing open."""
    for _ in range(3):
        Publisher(server.url).publish("x", channel="a")

    wait_until(lambda: server.clients("normal") == [], what="no client")


def test_a_forked_child_has_connections_of_its_own(server: RedisServer) -> None:
    """A publisher that was used before a fork works on both sides of it."""
    script = (
        "import os, sys\n"
        "from flask_eventstream import Publisher\n"
        "publisher = Publisher(sys.argv[1])\n"
        "publisher.publish('before')\n"
        "child = os.fork()\n"
        "for _ in range(50):\n"
        "    publisher.publish('child' if child == 0 else 'parent')\n"
        "os._exit(0) if child == 0 else sys.exit(os.waitpid(child, 0)[1])\n"
    )
    subprocess.run([sys.executable, "-c", script, server.url], check=True, timeout=30)

    assert server.ask("XLEN", "sse:events:{sse}") == 101


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


def test_a_child_has_locks_of_its_own(redis_broker: Broker) -> None:
    """A fork while another thread holds a lock of the broker leaves the child free to publish."""
    servers: Any = redis_broker._servers  # type: ignore[attr-defined]
    with servers._lock:
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            try:
                redis_broker.publish("a", Event("x"))
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)

    assert status == 0


# ---- pub/sub channels


def test_others_hear_bare_names(server: RedisServer, redis_broker: Broker) -> None:
    """Without a prefix events are published on channels of their own names, as others do."""
    with server.admin as client, client.pubsub() as pubsub:
        pubsub.subscribe("a")
        wait_until(lambda: pubsub.get_message(timeout=0.1), what="a subscription")
        publish(redis_broker, "a", "1")

        heard = wait_until(lambda: pubsub.get_message(timeout=0.1), what="a message")

    assert heard["channel"] == "a"


@pytest.mark.parametrize(
    ("query", "hidden", "taken"),
    [
        ("", "sse:__control", "sse:__control"),
        ("?prefix=shop:", "shop:__control", None),
    ],
)
def test_control_entries_are_published_under_the_prefix(
    server: RedisServer, open_url: Open, listen: Listen, query: str, hidden: str, taken: str | None
) -> None:
    """Readers of bare names hear no control entry, and no channel can have that name."""
    broker: Any = open_url(f"{server.url}{query}")
    ear = listen(broker, CONTROL_CHANNEL, "control")
    broker.control("text")
    ear.wait_heard(1)

    assert hidden in server.ask("PUBSUB", "CHANNELS")
    assert [entry.kind for entry in ear.heard] == [Kind.CONTROL]
    if taken is not None:
        with pytest.raises(InvalidChannel, match="as the log's own do"):
            broker.publish(taken, Event("forged"))
        with pytest.raises(InvalidChannel):
            broker.arrive([taken], None)


def test_a_forged_control_entry_has_no_place(
    server: RedisServer, redis_broker: Broker, listen: Listen
) -> None:
    """What somebody publishes on the hidden channel beside the log has no position."""
    ear = listen(redis_broker, CONTROL_CHANNEL)

    server.ask("PUBLISH", "sse:__control", '{"data": "{}"}')

    ear.wait_heard(1)
    assert [entry.position for entry in ear.heard] == [""]


def test_the_prefix_keeps_applications_apart(
    server: RedisServer, open_url: Open, listen: Listen
) -> None:
    """With prefixes of their own two applications on one server do not hear each other."""
    shop, other = open_url(f"{server.url}?prefix=shop:"), open_url(f"{server.url}?prefix=other:")
    ear = listen(shop, "a")
    publish(other, "a", "other's")
    publish(open_url(server.url), "a", "bare")
    publish(shop, "a", "ours")
    ear.wait_heard(1)

    assert ear.data == ["ours"]
    assert server.ask("PUBSUB", "CHANNELS") == ["shop:a"]


def test_databases_are_kept_apart(server: RedisServer, open_url: Open, listen: Listen) -> None:
    """Two applications in two databases of one server hear nothing of each other, live or later.

    Pub/sub knows no databases, but each message of ours says which log it is in. What others
    publish without a log reaches both.
    """
    here, there = open_url(server.url), open_url(server.url.replace("/0", "/3"))
    publish(there, "a", "before")
    ear = listen(here, "a")
    publish(here, "a", "1")
    publish(there, "a", "other's")
    publish(here, "a", "2")
    server.ask("PUBLISH", "a", '{"data": "anybody\'s"}')
    ear.wait_heard_data("anybody's")
    wait_until(lambda: len(ear.data) == 3, what="three events")

    assert ear.data == ["1", "2", "anybody's"]
    assert not ear.interruptions


# ---- URLs


def test_a_unix_socket(stack: ExitStack, open_url: Open, listen: Listen, tmp_path: Path) -> None:
    """`unix://` reaches a server by its socket, with options in the query."""
    path = tmp_path / "redis.sock"
    server = stack.enter_context(run_redis("--unixsocket", str(path)))
    broker = open_url(f"unix://{path}?db=1&prefix=u:")
    ear = listen(broker, "a")

    publish(broker, "a", "1")

    ear.wait_heard(1)
    with server.admin as client:
        assert client.info("keyspace")["db1"]["keys"] == 3


@pytest.mark.parametrize(
    "option",
    [
        *("decode_responses=True", "protocol=3", "health_check_interval=1", "encoding=latin-1"),
        *("socket_timeout=30", "retry_on_timeout=True", "max_connections=1"),
    ],
)
def test_options_for_others_change_nothing(
    server: RedisServer, open_url: Open, listen: Listen, option: str
) -> None:
    """What a shared URL tells redis-py on behalf of other programs does no harm here."""
    broker = open_url(f"{server.url}?{option}")
    ear = listen(broker, "a")

    (position,) = publish(broker, "a", "ä")

    ear.wait_heard(1)
    assert [entry.position for entry in ear.heard] == [position]
    assert not has_ended(broker, ["a"], position)


def test_the_database_is_chosen(server: RedisServer, open_url: Open) -> None:
    """The number in the URL's path is the database of all keys."""
    publish(open_url(server.url.replace("/0", "/3")), "a", "1")

    with server.admin as client:
        assert list(client.info("keyspace")) == ["db3"]


# ---- what a server refuses


def test_a_full_server(stack: ExitStack, open_url: Open) -> None:
    """Where maxmemory is reached the error says so and what to do; with room it works again."""
    server = stack.enter_context(run_redis())
    broker = open_url(server.url)
    publish(broker, "a", "1")
    server.ask("CONFIG", "SET", "maxmemory", "1")

    error = refused(broker)
    server.ask("CONFIG", "SET", "maxmemory", "0")

    assert "its memory is full" in error.why
    assert error.remedy == "raise maxmemory, or lower SSE_HISTORY_LENGTH"
    assert publish(broker, "a", "2")


def test_a_replica(stack: ExitStack, server: RedisServer, open_url: Open) -> None:
    """A read-only replica is refused with the advice to name the primary."""
    replica = stack.enter_context(run_redis(replica_of=server))
    publish(open_url(server.url), "a", "1")

    error = refused(open_url(replica.url))

    assert "it is a replica" in error.why
    assert error.remedy == "name the primary in the URL"


@pytest.mark.parametrize(
    ("secret", "why"),
    [(":wrong@", "it refuses the password"), ("", "it wants a password")],
    ids=["wrong", "none"],
)
def test_a_password(stack: ExitStack, open_url: Open, secret: str, why: str) -> None:
    """A wrong or missing password is named, and never shown."""
    server = stack.enter_context(run_redis(password="right"))
    broker = open_url(f"redis://{secret}127.0.0.1:{server.port}/0")

    error = refused(broker)

    assert why in error.why
    assert "wrong" not in str(error)
    assert publish(open_url(server.url), "a", "1")


def test_a_user_without_rights(server: RedisServer, open_url: Open) -> None:
    """A user who may not run scripts is told where the rules are."""
    server.ask("ACL", "SETUSER", "weak", "on", ">secret", "~*", "&*", "+@all", "-eval")

    error = refused(open_url(f"redis://weak:secret@127.0.0.1:{server.port}/0"))

    assert "its user may not do that" in error.why
    assert error.remedy == "give it the rules of docs/reference/redis.md"


@pytest.mark.parametrize("key", ["sse:log", "sse:events:{a}", "sse:channel:{a}"])
def test_a_key_of_another_type(server: RedisServer, redis_broker: Broker, key: str) -> None:
    """Where somebody else has a key of our name, the error says so, and the key stays as it is."""
    server.ask("SET", key, "mine")

    error = refused(redis_broker)

    assert "one of our keys is of another type" in error.why
    assert error.remedy == "choose another ?prefix= in the URL"
    assert server.ask("GET", key) == "mine"


def test_a_server_too_old(
    server: RedisServer, open_url: Open, start_proxy: Callable[..., Proxy]
) -> None:
    """A server that says it is Redis 5 is refused with the version that is needed."""
    proxy = start_proxy(server.port, rewrite=says_version(b"5.0"))

    error = refused(open_url(server.url_at(proxy.port)))

    assert re.search(r"the server is Redis 0*5\.0", error.why)
    assert error.remedy == "use Redis 6.2 or newer, or Valkey"


def test_nobody_listens(open_url: Open, server: RedisServer) -> None:
    """A server that is not there is said to be unavailable, at its address."""
    broker = open_url(server.url)
    server.stop()

    assert f"broker redis://127.0.0.1:{server.port}/0 is unavailable" in str(refused(broker))


# ---- time


@pytest.mark.parametrize("used_before", [True, False], ids=["used", "fresh"])
def test_a_publish_gives_up_in_time(
    server: RedisServer, open_url: Open, *, used_before: bool
) -> None:
    """A server that answers nothing costs a publisher its timeout, and no more."""
    broker = open_url(server.url, timeout_s=0.6)
    if used_before:
        publish(broker, "a", "1")
    server.stall()
    began_s = time.monotonic()

    refused(broker)
    took_s = time.monotonic() - began_s
    server.resume()

    assert took_s < 0.6 + SLACK_S
    wait_until(lambda: can_publish(broker), what="a publish")


def test_a_server_that_answers_slowly(
    server: RedisServer, open_url: Open, start_proxy: Callable[..., Proxy]
) -> None:
    """Where each answer trickles in, a publish fails in time as well."""
    proxy = start_proxy(server.port)
    broker = open_url(server.url_at(proxy.port), timeout_s=1)
    proxy.slow(bytes_per_s=200)
    began_s = time.monotonic()

    refused(broker)

    assert time.monotonic() - began_s < 1 + SLACK_S


def test_nothing_is_published_twice(
    server: RedisServer, open_url: Open, start_proxy: Callable[..., Proxy]
) -> None:
    """An event whose answer was lost on the way is in the log, and is never sent again."""
    answer = re.compile(rb"\$[0-9]+\r\n[0-9a-f]{8}-[0-9]+\r\n")
    proxy = start_proxy(server.port, rewrite=lambda said: answer.sub(b"", said))

    refused(open_url(server.url_at(proxy.port), timeout_s=0.6))

    assert server.ask("XLEN", "sse:events:{a}") == 1


# ---- listening


def test_foreign_messages_are_live(
    server: RedisServer, redis_broker: Broker, listen: Listen
) -> None:
    """What somebody else publishes is delivered live, without an id, and is in no log."""
    ear = listen(redis_broker, "a")
    start = ear.replay("a", after=None).position
    for text in ('{"data": {"q": 1}, "type": "t"}', '["t", "x"]', "[12:00] me: hi"):
        server.ask("PUBLISH", "a", text)

    ear.wait_heard(3)

    assert [entry.frame for entry in ear.heard] == [
        b'event: t\ndata: {"q": 1}\n\n',
        b"event: t\ndata: x\n\n",
        b"data: [12:00] me: hi\n\n",
    ]
    assert not ear.replay("a", after=start).entries


def test_a_foreign_id_moves_no_reader(
    server: RedisServer, redis_broker: Broker, listen: Listen
) -> None:
    """Somebody's id that looks like a position keeps nothing from being delivered."""
    ear = listen(redis_broker, "a")
    for number in (9, 5, 5):
        server.ask("PUBLISH", "a", f'{{"id": "abcdefgh-{number}", "data": {number}}}')
    publish(redis_broker, "a", "ours")

    ear.wait_heard(4)

    assert ear.data == ["9", "5", "5", "ours"]


def test_unreadable_messages_are_skipped(
    server: RedisServer,
    redis_broker: Broker,
    listen: Listen,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """They are counted by kind, each kind is logged once, and what comes after is delivered."""
    ear = listen(redis_broker, "a")
    for _ in range(3):
        server.ask("PUBLISH", "a", '{"type": "t"}')
        server.ask("PUBLISH", "a", '{"data": "x", "id": ["y"]}')
    publish(redis_broker, "a", "next")

    ear.wait_heard(1)

    listener: Any = ear.listener
    assert ear.data == ["next"]
    assert listener._reports.unreadable == {"no data": 3, "invalid field": 3}
    assert len([r for r in caplog.records if "was skipped" in r.message]) == 2


def test_channels_without_readers_are_dropped(
    server: RedisServer, redis_broker: Broker, listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A little after its last reader left, a channel is unsubscribed; the others stay."""
    monkeypatch.setattr(redis_feed, "_LINGER_S", 0.1)
    ear = listen(redis_broker, "a", "b")

    ear.unsubscribe("a")

    wait_until(lambda: server.ask("PUBSUB", "CHANNELS") == ["b"], what="a to be unsubscribed")


def test_a_channel_is_kept_for_who_comes_back(
    server: RedisServer, redis_broker: Broker, listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader who comes back in the meantime keeps the channel subscribed."""
    monkeypatch.setattr(redis_feed, "_LINGER_S", 0.1)
    ear = listen(redis_broker, "a", "b")
    ear.unsubscribe("a", "b")
    ear.subscribe("a")

    wait_until(lambda: server.ask("PUBSUB", "CHANNELS") == ["a"], what="b to be unsubscribed")
    publish(redis_broker, "a", "1")

    ear.wait_heard(1)


def test_leaving_and_coming_at_the_same_time(
    redis_broker: Broker, listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However close a channel's end and its next beginning are, the new reader hears."""
    monkeypatch.setattr(redis_feed, "_LINGER_S", 0)
    ear = listen(redis_broker, "a")
    for number in range(100):
        ear.unsubscribe("a")
        ear.subscribe("a")
        publish(redis_broker, "a", str(number))
        ear.wait_heard_data(str(number))


def test_coming_back_in_the_moment_of_leaving(
    redis_broker: Broker, listen: Listen, loop: Loop
) -> None:
    """A channel that is subscribed again before the server was told of its end stays subscribed."""
    ear = listen(redis_broker, "a", "b")
    listener: Any = ear.listener

    async def leave_and_come() -> None:
        listener.unsubscribe(["a"])
        listener._drop(["a"])  # as after the linger time
        await listener.subscribe(["a"])

    loop.run(leave_and_come())
    ear.subscribe("c")  # by then the server has heard everything before
    publish(redis_broker, "a", "1")

    ear.wait_heard(1)


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


def test_a_reader_that_never_subscribed_may_leave(redis_broker: Broker, listen: Listen) -> None:
    """Unsubscribing from what was never subscribed is nothing."""
    ear = listen(redis_broker, "a")

    ear.unsubscribe("b", "a")
    ear.unsubscribe("a")


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


def test_a_restart_while_a_reader_is_far_behind(
    stack: ExitStack, open_url: Open, listen: Listen
) -> None:
    """Live readers get nothing twice over a restart while another reader is pages behind."""
    server = stack.enter_context(run_redis("--appendfsync", "always", aof=True))
    broker = open_url(server.url)
    ear = listen(broker)
    live = ear.attach_live("calm")
    (oldest,) = publish(broker, "busy", "first")
    broker.publish_many("busy", [Event("x" * 20_000) for _ in range(600)])
    publish(broker, "calm", *map(str, range(5)))
    ear.subscribe("busy")
    page = ear.replay("busy", after=oldest)
    server.kill()
    server.start()
    wait_until(lambda: server.clients("pubsub"), what="a new session")
    publish(broker, "calm", "last")

    wait_until(lambda: "last" in live.data, what="the last event")

    assert page.more
    assert live.data == [*map(str, range(5)), "last"]


def test_each_channel_resumes_from_where_it_stands(
    stack: ExitStack, open_url: Open, listen: Listen, loop: Loop
) -> None:
    """Where one page has two channels, its end moves none of them back, over a restart either."""
    server = stack.enter_context(run_redis(aof=True))
    broker = open_url(server.url)
    (far,) = publish(broker, "busy", "first")
    broker.publish_many("busy", [Event("x" * 20_000) for _ in range(600)])
    (*_, near) = publish(broker, "calm", *map(str, range(5)))
    server.restart()
    publish(broker, "calm", "last")
    listener: Any = listen(broker).listener
    positions = {"busy": Position.parse(far), "calm": Position.parse(near)}

    reading = loop.run(listener._reader.resume(positions))

    stands = {channel: position.sequence for channel, position in reading.stands.items()}
    assert reading.replay.more
    assert stands == {"busy": reading.replay.sequence, "calm": positions["calm"].sequence}
    assert stands["busy"] < stands["calm"]


def test_the_process_is_named_by_nothing_secret() -> None:
    """A broker shows its address without user and password."""
    secret = secrets.token_hex(8)
    broker = broker_from_url(
        f"redis://user:{secret}@localhost:1/0?prefix=x", retention=None, timeout_s=1
    )

    assert broker.url == "redis://localhost:1/0"
