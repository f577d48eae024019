"""What is special about the Redis broker. What all brokers do is in test_contract.py."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest

from brokers.hearing import Loop
from brokers.redis.at_hand import (
    Listen,
    Open,
    publish,
    refused,
    says_version,
)
from flask_eventstream.brokers import Broker
from flask_eventstream.brokers.redis import listener as redis_feed
from flask_eventstream.brokers.redis.scripts import Script
from flask_eventstream.errors import InvalidChannel
from flask_eventstream.event import Event
from flask_eventstream.log.entries import CONTROL_CHANNEL, Kind
from flask_eventstream.publisher import Publisher
from harness.redis_server import Proxy, RedisServer, run_redis
from harness.waiting import wait_until

pytestmark = pytest.mark.real


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


def test_a_dropped_publisher_gives_its_connection_back(server: RedisServer) -> None:
    """A publisher that was made for one event and never closed leaves nothing open."""
    for _ in range(3):
        Publisher(server.url).publish("x", channel="a")

    wait_until(lambda: server.clients("normal") == [], what="no client")


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


def test_a_reader_that_never_subscribed_may_leave(redis_broker: Broker, listen: Listen) -> None:
    """Unsubscribing from what was never subscribed is nothing."""
    ear = listen(redis_broker, "a")

    ear.unsubscribe("b", "a")
    ear.unsubscribe("a")
