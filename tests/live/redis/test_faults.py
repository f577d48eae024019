"""Redis fails in every way that it has, in mid-traffic: nothing is lost, doubled or silent."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import redis

from flask_eventstream import Publisher
from harness.redis_server import Proxy, RedisServer
from harness.servers import Server
from harness.streams import Reader
from harness.waiting import wait_until
from live.redis.traffic import BROWSER, Traffic, run_traffic

StartRedis = Callable[..., RedisServer]
StartProxy = Callable[..., Proxy]
StartHub = Callable[..., Server]


@contextmanager
def traffic(server: RedisServer, start_hub: StartHub) -> Iterator[Traffic]:
    hub = start_hub(server.url)
    with run_traffic(hub.url, server.url) as flowing:
        yield flowing


def test_without_a_fault_nothing_is_lost(start_redis: StartRedis, start_hub: StartHub) -> None:
    """Readers who stay and readers who come and go see every event once, in order."""
    with traffic(start_redis(), start_hub) as flowing:
        flowing.flow(200)
        flowing.finish()

        assert flowing.failures() == []


def test_stopped_and_started(start_redis: StartRedis, start_hub: StartHub) -> None:
    """A server with an append-only file is stopped and started: nothing is lost or doubled."""
    server = start_redis(aof=True)
    with traffic(server, start_hub) as flowing:
        server.stop()
        flowing.wait_failures()
        server.start()
        flowing.flow()
        flowing.finish()


def test_killed_and_started(start_redis: StartRedis, start_hub: StartHub) -> None:
    """A server whose file is synchronous gets SIGKILL: nothing is lost, nothing doubled."""
    # With everysec a write may wait for the disk, although it was answered (aof.c, postponed).
    server = start_redis("--appendfsync", "always", aof=True)
    with traffic(server, start_hub) as flowing:
        server.kill()
        flowing.wait_failures()
        server.start()
        flowing.flow()
        flowing.finish()


def test_started_empty(start_redis: StartRedis, start_hub: StartHub) -> None:
    """A server that lost everything: each reader is told for each channel, and goes on."""
    server = start_redis()
    with traffic(server, start_hub) as flowing:
        server.kill()
        flowing.wait_failures()
        server.start()
        flowing.flow()
        flowing.finish(resets=True)

        for follower in flowing.followers:
            told = {channel for one in follower.resets for channel in one.channels}
            assert told == set(follower.channels)


def test_flushed(start_redis: StartRedis, start_hub: StartHub) -> None:
    """FLUSHALL in mid-traffic: what was published before and after is shown, or named as gone."""
    server = start_redis()
    with traffic(server, start_hub) as flowing:
        for _ in range(3):
            server.ask("FLUSHALL")
            flowing.flow()
        flowing.finish(resets=True)

        assert flowing.failures() == []


def test_a_reader_is_told_of_a_flush(start_redis: StartRedis, start_hub: StartHub) -> None:
    """A reader who comes back after FLUSHALL gets a reset with its channels, then the rest."""
    server = start_redis()
    hub = start_hub(server.url)
    publisher = Publisher(server.url)
    position = publisher.publish("before", channel="a")
    server.ask("FLUSHALL")

    with Reader(f"{hub.url}/stream?channel=a&channel=b", {"Last-Event-ID": position}) as reader:
        reset = reader.next_event()
        publisher.publish("after", channel="a")

        assert (reset["type"], reset["data"]) == ("stream-reset", '{"channels": ["a", "b"]}')
        assert reader.next_event()["data"] == "after"


@pytest.mark.parametrize("kind", ["pubsub", "normal"])
def test_connections_killed(start_redis: StartRedis, start_hub: StartHub, kind: str) -> None:
    """CLIENT KILL in mid-traffic, again and again: nothing is lost, nothing doubled."""
    server = start_redis()
    with traffic(server, start_hub) as flowing:
        for _ in range(4):
            server.ask("CLIENT", "KILL", "TYPE", kind)
            flowing.flow(20)
        flowing.finish()


def test_output_buffer_limit(start_redis: StartRedis, start_hub: StartHub) -> None:
    """A hub that Redis cuts off for not reading comes back to everything that it missed."""
    server = start_redis("--client-output-buffer-limit", "pubsub", "64kb", "0", "0")
    # More than waits for the big channel's reader, who reads only when all has come.
    hub = start_hub(server.url, SSE_MAX_BUFFER_BYTES=64_000_000)
    with run_traffic(hub.url, server.url) as flowing:
        (listening,) = server.clients("pubsub")
        publisher = Publisher(server.url)
        publisher.publish_many(["x" * 1_000_000] * 8, channel="big")
        with Reader(f"{hub.url}/stream?channel=big") as big:
            wait_until(lambda: big.comments, what="the stream of the big channel")
            wait_until(lambda: subscribed(server, "big"), what="its subscription")
            publisher.publish_many(["x" * 1_000_000] * 8, channel="big")
            wait_until(
                lambda: [c["id"] for c in server.clients("pubsub")] not in ([], [listening["id"]]),
                what="another connection of the hub",
            )
            sizes = [len(big.next_event()["data"]) for _ in range(8)]
        flowing.flow()
        flowing.finish()

        assert sizes == [1_000_000] * 8
        assert "output buffer limits" in server.log()


def test_scripts_flushed(start_redis: StartRedis, start_hub: StartHub) -> None:
    """SCRIPT FLUSH in mid-traffic: publishing does not fail, and nothing is lost."""
    server = start_redis()
    with traffic(server, start_hub) as flowing:
        for _ in range(4):
            server.ask("SCRIPT", "FLUSH")
            flowing.flow(10)
        flowing.finish()

        assert flowing.failures() == []


# ---- the network


def test_network_cut(start_redis: StartRedis, start_proxy: StartProxy, start_hub: StartHub) -> None:
    """The network between hub and Redis is cut while events flow: the hub reads what it missed."""
    server = start_redis()
    proxy = start_proxy(server.port)
    hub = start_hub(server.url_at(proxy.port))
    with run_traffic(hub.url, server.url) as flowing:
        for _ in range(2):
            proxy.cut()
            flowing.flow()
            proxy.mend()
            flowing.wait_read()
        flowing.finish()

        assert flowing.failures() == []


def test_network_stalled(
    start_redis: StartRedis, start_proxy: StartProxy, start_hub: StartHub
) -> None:
    """Bytes stop, without a sign: the hub notices, connects anew and reads what it missed."""
    server = start_redis()
    proxy = start_proxy(server.port)
    hub = start_hub(server.url_at(proxy.port))
    with run_traffic(hub.url, server.url) as flowing:
        proxy.stall()
        wait_until(
            lambda: "Readers get no events" in hub.log(), within_s=20, what="the hub to notice"
        )
        proxy.cut()  # what the old connections still hold must not come
        proxy.mend()
        flowing.wait_read()
        flowing.finish()


def test_a_short_stall_is_waited_out(
    start_redis: StartRedis, start_proxy: StartProxy, start_hub: StartHub
) -> None:
    """What a network held back arrives late, once, and on the same connection."""
    server = start_redis()
    proxy = start_proxy(server.port)
    hub = start_hub(server.url_at(proxy.port))
    with run_traffic(hub.url, server.url) as flowing:
        proxy.stall()
        flowing.flow()
        proxy.mend()
        flowing.wait_read()
        flowing.finish()

        assert "Readers get no events" not in hub.log()


def test_network_slow(
    start_redis: StartRedis, start_proxy: StartProxy, start_hub: StartHub
) -> None:
    """A network that is slower than the events: they come late, all of them, once, in order."""
    server = start_redis()
    proxy = start_proxy(server.port)
    hub = start_hub(server.url_at(proxy.port))
    with run_traffic(hub.url, server.url) as flowing:
        proxy.slow(bytes_per_s=20_000)
        flowing.flow(150)
        proxy.mend()
        flowing.finish()


def test_publishing_through_a_stalled_network_fails_in_time(
    start_redis: StartRedis, start_proxy: StartProxy, start_hub: StartHub
) -> None:
    """Publishers behind a network where bytes stop fail in time, and recover by themselves."""
    server = start_redis()
    proxy = start_proxy(server.port)
    hub = start_hub(server.url)
    with run_traffic(hub.url, server.url_at(proxy.port)) as flowing:
        proxy.stall()
        flowing.wait_failures()
        proxy.mend()
        flowing.flow()
        flowing.finish()


def test_publishing_through_a_cut_network_fails_in_time(
    start_redis: StartRedis, start_proxy: StartProxy, start_hub: StartHub
) -> None:
    """Publishers that are cut off fail at once, and recover by themselves."""
    server = start_redis()
    proxy = start_proxy(server.port)
    hub = start_hub(server.url)
    with run_traffic(hub.url, server.url_at(proxy.port)) as flowing:
        proxy.cut()
        flowing.wait_failures()
        proxy.mend()
        flowing.flow()
        flowing.finish()


def test_server_stalled(start_redis: StartRedis, start_hub: StartHub) -> None:
    """A server that answers nothing: publishers fail in time, readers miss nothing later."""
    server = start_redis()
    with traffic(server, start_hub) as flowing:
        server.stall()
        flowing.wait_failures()
        server.resume()
        flowing.flow()
        flowing.finish()


# ---- what a server refuses


def test_memory_full(start_redis: StartRedis, start_hub: StartHub) -> None:
    """A full server: publishing fails with the remedy, and goes on when memory is freed."""
    server = start_redis(maxmemory="20mb")
    with traffic(server, start_hub) as flowing:
        with server.admin as client:
            with contextlib.suppress(redis.exceptions.OutOfMemoryError):
                while True:
                    client.append("ballast", "x" * 1_000_000)
            flowing.wait_failures()
            client.delete("ballast")
        flowing.flow()
        flowing.finish()

        (text,) = set(flowing.failures())
        assert "memory is full" in text
        assert "raise maxmemory, or lower SSE_HISTORY_LENGTH" in text


# ---- a hub that starts while Redis is away


def test_a_stream_opens_while_redis_is_away(start_redis: StartRedis, start_hub: StartHub) -> None:
    """The first byte comes within about a second, then heartbeats; events when it is back."""
    server = start_redis()
    server.stop()
    hub = start_hub(server.url, SSE_HEARTBEAT_S=0.4)

    with Reader(f"{hub.url}/stream?channel=a", BROWSER, timeout_s=3) as reader:
        wait_until(lambda: reader.comments, within_s=3, what="the first byte")
        wait_until(lambda: reader.comments >= 4, within_s=5, what="heartbeats")
        server.start()
        wait_until(lambda: subscribed(server, "a"), what="the subscription")
        wait_until(lambda: reader.last_event_id, what="the stream's position")
        Publisher(server.url).publish("live", channel="a")

        assert reader.next_event()["data"] == "live"


def test_a_returning_reader_waits_for_redis(start_redis: StartRedis, start_hub: StartHub) -> None:
    """A stream that was opened while Redis was away is given what its reader missed before."""
    server = start_redis(aof=True)
    publisher = Publisher(server.url)
    position = publisher.publish("seen", channel="a")
    publisher.publish("missed", channel="a")
    server.stop()
    hub = start_hub(server.url)

    with Reader(f"{hub.url}/stream?channel=a", {"Last-Event-ID": position}) as reader:
        wait_until(lambda: reader.comments, what="the first byte")
        server.start()

        assert reader.next_event()["data"] == "missed"


def test_the_log_says_when_redis_is_away_and_back(
    start_redis: StartRedis, start_hub: StartHub
) -> None:
    """An outage is logged once when it begins and once when it is over, not for each try."""
    server = start_redis(aof=True)
    hub = start_hub(server.url)
    with Reader(f"{hub.url}/stream?channel=a") as reader:
        wait_until(lambda: reader.comments, what="the first byte")
        server.stop()
        wait_until(lambda: "Readers get no events until" in hub.log(), what="the complaint")
        publisher = Publisher(server.url, timeout_s=1)
        server.start()
        wait_until(lambda: "is back; readers have" in hub.log(), what="the end of it")
        publisher.publish("x", channel="a")

        assert reader.next_event()["data"] == "x"
        assert hub.log().count("Readers get no events until") == 1
        assert hub.log().count("is back; readers have") == 1


def subscribed(server: RedisServer, channel: str) -> bool:
    return channel in server.ask("PUBSUB", "CHANNELS")
