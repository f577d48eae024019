"""Sentinels and clusters: the loss of a primary in mid-traffic loses nothing."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flask_eventstream import BrokerUnavailable, InvalidChannel, Publisher
from flask_eventstream.brokers import broker_from_url
from flask_eventstream.event import Event
from flask_eventstream.log.entries import CONTROL_CHANNEL, Retention
from harness.redis_many import Cluster, Watched, run_cluster, run_sentinels
from harness.servers import Server
from harness.streams import Reader, get
from harness.waiting import wait_until
from live.redis.traffic import BROWSER, run_traffic

StartHub = Callable[..., Server]


@pytest.fixture
def watched() -> Iterator[Watched]:
    with run_sentinels() as watched:
        yield watched


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One for all tests here: what they do to it, it survives."""
    with run_cluster() as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def _emptied(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "cluster" in request.fixturenames:
        shared: Cluster = request.getfixturevalue("cluster")
        for node in shared.nodes:
            if node.running and node.info("replication")["role"] == "master":
                node.ask("FLUSHALL")


def test_sentinels_replace_a_killed_primary(watched: Watched, start_hub: StartHub) -> None:
    """A primary is killed in mid-traffic: its replica takes over, and nothing is lost."""
    hub = start_hub(watched.url)
    with run_traffic(hub.url, watched.url) as flowing:
        watched.primary.kill()
        flowing.wait_failures()
        watched.wait_failover()
        flowing.flow()
        flowing.finish()


def test_a_failed_primary_comes_back_as_a_replica(watched: Watched, start_hub: StartHub) -> None:
    """The old primary comes back after a failover, and traffic goes on without a loss."""
    hub = start_hub(watched.url)
    with run_traffic(hub.url, watched.url) as flowing:
        watched.primary.kill()
        watched.wait_failover()
        watched.primary.start()
        wait_until(
            lambda: watched.primary.info("replication")["role"] == "slave",
            within_s=40,
            what="the old primary to follow the new one",
        )
        flowing.flow()
        flowing.finish()


def test_sentinels_and_control(watched: Watched) -> None:
    """Behind Sentinels a control entry is appended, and a record is kept, also after a failover."""
    broker: Any = broker_from_url(watched.url, retention=None, timeout_s=20)
    broker.control("first")
    broker.remember("name", "text", for_s=60)

    watched.primary.kill()
    watched.wait_failover()
    with contextlib.suppress(BrokerUnavailable):
        broker.control("lost")  # it finds out that the primary is gone
    broker.control("second")

    wait_until(lambda: recalled(broker) == "text", what="the record from the new primary")
    assert [entry.event.data for entry in broker.newest(CONTROL_CHANNEL, 5)] == ["first", "second"]


def test_a_cluster_and_control(cluster: Cluster) -> None:
    """In a cluster control entries and records lie on a node each, also after their slots moved."""
    broker: Any = broker_from_url(cluster.url, retention=None, timeout_s=20)
    broker.control("first")
    broker.remember("name", "text", for_s=60)

    cluster.move(CONTROL_CHANNEL)
    cluster.move("name")
    broker.control("second")

    wait_until(lambda: recalled(broker) == "text", what="the record from its new node")
    assert [entry.event.data for entry in broker.newest(CONTROL_CHANNEL, 5)] == ["first", "second"]


def test_a_cluster_and_shares(cluster: Cluster) -> None:
    """In a cluster what processes say of channels lies on one node, also after its slot moved."""
    broker: Any = broker_from_url(cluster.url, retention=None, timeout_s=20)
    broker.share("p1", {"a": "1", "b": "2"}, for_s=60, whole=True)
    broker.share("p2", {"a": "3"}, for_s=60, whole=True)

    cluster.move("shares")

    def said() -> list[str]:
        with contextlib.suppress(BrokerUnavailable):
            return sorted(broker.shares("a"))
        return []

    wait_until(lambda: said() == ["1", "3"], what="the shares from their new node")
    assert broker.share("p1", {"a": ""}, for_s=60)
    assert said() == ["3"]


def recalled(broker: Any) -> str | None:
    """The record, or nothing where it can't be had yet."""
    try:
        text: str | None = broker.recall("name")
    except BrokerUnavailable:
        return None
    return text


def test_a_slot_moves_in_mid_traffic(cluster: Cluster, start_hub: StartHub) -> None:
    """A channel's slot moves to another node in mid-traffic: nothing is lost, nothing doubled."""
    hub = start_hub(cluster.url)
    with run_traffic(hub.url, cluster.url) as flowing:
        cluster.move("b")
        flowing.flow()
        flowing.finish()


def test_one_event_to_channels_of_all_nodes(cluster: Cluster) -> None:
    """`publish_to` gives each channel of a cluster the event once, also while slots move."""
    broker = broker_from_url(cluster.url, retention=None, timeout_s=20)
    names = [f"to-{number}" for number in range(150)]
    events = 12

    found = []
    for number in range(events):
        if number in (4, 8):
            cluster.move("to-7")
        if number == 6:
            cluster.home_of("to-9").ask("SCRIPT", "FLUSH")
        found.append(broker.publish_to(names, Event(str(number))))

    assert len({cluster.home_of(name).port for name in names}) > 1
    for place, name in enumerate(names):
        with cluster.home_of(name).admin as client:
            logged = [
                row_id.partition("-")[0] for row_id, _ in client.xrange(f"sse:events:{{{name}}}")
            ]
        assert logged == [ids[place].partition("-")[2] for ids in found]
    broker.close()


def test_many_events_while_their_slot_moves(cluster: Cluster) -> None:
    """Each event of `publish_many` is in the log once, in order, whatever its node says meanwhile.

    Its scripts are flushed all the time, and its slot moves twice.
    """
    broker = broker_from_url(cluster.url, retention=Retention(length=20_000), timeout_s=20)
    over = threading.Event()

    def disturb() -> None:
        for turn in itertools.count():
            if over.wait(0.05):
                return
            cluster.home_of("m").ask("SCRIPT", "FLUSH")
            if turn in (5, 15):
                cluster.move("m")

    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    ids: list[str] = []
    try:
        give_up_s = time.monotonic() + 3
        while time.monotonic() < give_up_s:
            ids += broker.publish_many("m", [Event("x")] * 300)
    finally:
        over.set()
        disturbing.join()
        broker.close()

    with cluster.home_of("m").admin as client:
        logged = [row_id.partition("-")[0] for row_id, _ in client.xrange("sse:events:{m}")]
    assert len(logged) > 300
    assert [position.partition("-")[2] for position in ids][-len(logged) :] == logged


def test_readers_write_nothing(cluster: Cluster, start_hub: StartHub) -> None:
    """Streams of names that nobody publishes to leave no key, and live events reach them."""
    hub = start_hub(cluster.url)
    names = [f"made-up-{number}" for number in range(6)]
    with contextlib.ExitStack() as stack:
        readers = [
            stack.enter_context(Reader(f"{hub.url}/stream?channel={name}", BROWSER))
            for name in names
        ]
        for reader in readers:
            wait_until(lambda r=reader: r.last_event_id, what="its position")
        keys = [key for node in cluster.nodes for key in node.ask("KEYS", "*made-up*")]
        Publisher(cluster.url).publish("x", channel=names[0])

        assert readers[0].next_event()["data"] == "x"
        assert keys == []


def test_a_publish_costs_one_node(cluster: Cluster) -> None:
    """An event of a channel reaches its own node and replica, and no other node."""
    home = cluster.home_of("orders")
    others = [
        node
        for node in cluster.nodes
        if node is not home and node.info("replication")["role"] == "master"
    ]
    for node in cluster.nodes:
        node.ask("CONFIG", "RESETSTAT")
    publisher = Publisher(cluster.url)
    for number in range(20):
        publisher.publish(number, channel="orders")

    assert home.info("commandstats")["cmdstat_spublish"]["calls"] == 20
    assert all("cmdstat_spublish" not in node.info("commandstats") for node in others)
    assert all(node.ask("DBSIZE") == 0 for node in others)


def test_a_reader_of_several_nodes_resumes(cluster: Cluster, start_hub: StartHub) -> None:
    """One id carries the positions in channels of several nodes: what was missed comes, once."""
    hub = start_hub(cluster.url)
    publisher = Publisher(cluster.url)
    url = f"{hub.url}/stream?channel=a&channel=b&channel=c"
    with Reader(url) as reader:
        wait_until(lambda: reader.comments, what="the first byte")
        for channel in "abcab":
            publisher.publish(f"first {channel}", channel=channel)
        seen = [reader.next_event() for _ in range(5)]
    for channel in "cab":
        publisher.publish(f"missed {channel}", channel=channel)

    with Reader(url, {"Last-Event-ID": seen[-1]["id"]}) as reader:
        missed = [reader.next_event() for _ in range(3)]
        publisher.publish("live", channel="c")
        live = reader.next_event()

    assert len({cluster.home_of(channel).port for channel in "abc"}) > 1
    assert sorted(event["data"] for event in missed) == ["missed a", "missed b", "missed c"]
    assert live["data"] == "live"
    assert len(seen[-1]["id"].encode()) <= 128


def test_an_id_of_other_channels_is_a_reset(cluster: Cluster, start_hub: StartHub) -> None:
    """An id that was made for another set of channels proves nothing: the reader is told."""
    hub = start_hub(cluster.url)
    publisher = Publisher(cluster.url)
    with Reader(f"{hub.url}/stream?channel=a&channel=b") as reader:
        wait_until(lambda: reader.comments, what="the first byte")
        publisher.publish("x", channel="a")
        last_id = reader.next_event()["id"]

    with Reader(f"{hub.url}/stream?channel=a&channel=c", {"Last-Event-ID": last_id}) as reader:
        reset = reader.next_event()

    assert reset["type"] == "stream-reset"
    assert reset["data"] == '{"channels": ["a", "c"]}'


def test_an_ended_channel_of_a_cluster_stops_its_readers(
    cluster: Cluster, start_hub: StartHub
) -> None:
    """A reader of an ended channel gets its end, and 204 when it comes back."""
    hub = start_hub(cluster.url)
    publisher = Publisher(cluster.url)
    url = f"{hub.url}/stream?channel=a&channel=b"
    with Reader(url) as reader:
        wait_until(lambda: reader.comments, what="the first byte")
        publisher.end("a")
        publisher.end("b")
        ends = [reader.next_event(), reader.next_event()]
        reader.wait_end(10)

    assert [end["type"] for end in ends] == ["stream-end", "stream-end"]
    assert get(url, {"Last-Event-ID": ends[-1]["id"]}).status == 204


def test_a_channel_with_braces_is_refused(cluster: Cluster, start_hub: StartHub) -> None:
    """Braces choose a name's slot, so a cluster's channel can't have them: 400, and an error."""
    hub = start_hub(cluster.url)

    with pytest.raises(InvalidChannel, match="has braces"):
        Publisher(cluster.url).publish("x", channel="a{b}")
    reply = get(f"{hub.url}/stream?channel=a%7Bb%7D")

    assert reply.status == 400
    assert b"has braces" in reply.body


def test_a_cluster_survives_a_killed_primary(cluster: Cluster, start_hub: StartHub) -> None:
    """A node of a cluster is killed in mid-traffic: its replica takes over, nothing is lost."""
    hub = start_hub(cluster.url)
    with run_traffic(hub.url, cluster.url) as flowing:
        killed = cluster.home_of("a")
        killed.kill()
        flowing.wait_failures()
        cluster.wait_settled()
        flowing.flow()
        flowing.finish()
    killed.start()
