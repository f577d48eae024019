"""What Redis sees of a process: few connections, however many streams and events."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from flask_eventstream import Publisher
from harness.redis_server import RedisServer
from harness.servers import Server
from harness.streams import Crowd, allow_descriptors, post
from harness.waiting import wait_until

StartRedis = Callable[..., RedisServer]
StartHub = Callable[..., Server]

CROWDS = 10
CHANNELS_EACH = 30
# What a process with readers hears besides.
CONTROL = 1
STREAMS_EACH = 100


def test_one_connection_carries_all_subscriptions(
    start_redis: StartRedis, start_hub: StartHub, stack: ExitStack
) -> None:
    """1,000 streams on 300 channels are one subscribed connection, and channels go with readers."""
    allow_descriptors(2 * CROWDS * STREAMS_EACH)
    server = start_redis()
    hub = start_hub(server.url)
    crowds = []
    for crowd in range(CROWDS):
        query = "&".join(f"channel=c{crowd}-{number}" for number in range(CHANNELS_EACH))
        crowds.append(stack.enter_context(Crowd.open(f"{hub.url}/stream?{query}", STREAMS_EACH)))
    for crowd in crowds:
        crowd.wait_opened(STREAMS_EACH, within_s=60)
    wait_until(
        lambda: len(server.ask("PUBSUB", "CHANNELS")) == CROWDS * CHANNELS_EACH + CONTROL,
        within_s=30,
        what="all subscriptions",
    )
    publisher = Publisher(server.url)
    for crowd in range(CROWDS):
        for number in range(CHANNELS_EACH):
            publisher.publish(f"{crowd} {number}", channel=f"c{crowd}-{number}")
    for number, crowd in enumerate(crowds):
        crowd.wait_events(CHANNELS_EACH, within_s=30)

        assert crowd.data_of(0) == [f"{number} {each}" for each in range(CHANNELS_EACH)]

    (listening,) = server.clients("pubsub")
    assert int(listening["sub"]) == CROWDS * CHANNELS_EACH + CONTROL
    # Eight for pages, one that asks for ended channels, and the publisher's.
    assert len(server.clients("normal")) <= 10

    for crowd in crowds[1:]:
        crowd.close_all()
    wait_until(
        lambda: len(server.ask("PUBSUB", "CHANNELS")) == CHANNELS_EACH + CONTROL,
        within_s=20,
        what="channels without readers to be dropped",
    )
    assert [one["id"] for one in server.clients("pubsub")] == [listening["id"]]


def test_a_worker_publishes_over_one_connection(
    start_redis: StartRedis, start_hub: StartHub
) -> None:
    """A view that publishes opens no TCP connection for it, but for the first."""
    server = start_redis()
    hub = start_hub(server.url)
    post(f"{hub.url}/publish")
    with server.admin as client:
        before = client.info("stats")["total_connections_received"]
        ids = [post(f"{hub.url}/publish").text for _ in range(50)]

        assert client.info("stats")["total_connections_received"] == before
    assert len(set(ids)) == 50


def test_a_worker_that_stops_clears_up(start_redis: StartRedis, start_hub: StartHub) -> None:
    """A worker that is told to end closes its connections, and says nothing of lost tasks."""
    server = start_redis()
    hub = start_hub(server.url)
    with Crowd.open(f"{hub.url}/stream?channel=a", 3) as crowd:
        crowd.wait_opened(3, within_s=20)
        wait_until(lambda: server.clients("pubsub"), what="the subscription")

        assert hub.stop()
    wait_until(lambda: not server.clients("normal"), what="the end of its connections")
    assert "Task was destroyed" not in hub.log()
    assert "Traceback" not in hub.log()


def test_a_worker_without_readers_rests(start_redis: StartRedis, start_hub: StartHub) -> None:
    """A little after the last stream the process is subscribed to nothing at all."""
    server = start_redis()
    hub = start_hub(server.url)
    with Crowd.open(f"{hub.url}/stream?channel=a", 3) as crowd:
        crowd.wait_opened(3, within_s=20)
        wait_until(lambda: server.clients("pubsub"), what="the subscription")

    wait_until(lambda: not server.clients("pubsub"), within_s=20, what="the end of it")
