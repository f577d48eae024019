"""The reading side of Redis where something is wrong with one channel, message or connection."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
import uvloop

from brokers.hearing import Ear
from flask_eventstream.brokers import Broker, broker_from_url
from flask_eventstream.brokers.redis.pages import LogReader
from flask_eventstream.brokers.redis.reports import Reports
from flask_eventstream.brokers.redis.scripts import Keys
from flask_eventstream.brokers.redis.session import FAILURES, Session
from flask_eventstream.brokers.redis.url import RedisUrl
from flask_eventstream.event import Event
from flask_eventstream.log.entries import Entry
from harness.redis_server import RedisServer, run_redis
from harness.waiting import wait_until

Listen = Callable[..., Ear]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def server(stack: ExitStack) -> RedisServer:
    return stack.enter_context(run_redis())


@pytest.fixture
def broker(stack: ExitStack, server: RedisServer) -> Broker:
    broker = broker_from_url(server.url, retention=None, timeout_s=5)
    stack.callback(broker.close)
    return broker


def sent_bytes(server: RedisServer) -> int:
    return int(server.info("stats")["total_net_output_bytes"])


# ---- what a page costs


def test_a_reader_is_sent_its_history_once(
    server: RedisServer, broker: Broker, listen: Listen
) -> None:
    """Who takes 20 MB page by page makes Redis send about 20 MB."""
    first = broker.publish("a", Event("first"))
    broker.publish_many("a", [Event("x" * 40_000) for _ in range(500)])
    ear = listen(broker, "a")
    before = sent_bytes(server)

    pages = ear.replay_all("a", after=first)

    assert sum(len(page.entries) for page in pages) == 500
    assert sent_bytes(server) - before < 1.1 * 500 * 40_000


def test_one_page_of_many_channels_is_one_page(
    server: RedisServer, broker: Broker, listen: Listen
) -> None:
    """A reader of eight full channels is sent a page in all, and not one of each."""
    channels = "abcdefgh"
    first = broker.publish("a", Event("first"))
    for channel in channels:
        broker.publish_many(channel, [Event("x" * 40_000) for _ in range(60)])
    ear = listen(broker, *channels)
    before = sent_bytes(server)

    page = ear.replay(*channels, after=first)

    assert page.more
    assert sent_bytes(server) - before < 1_200_000


@pytest.mark.parametrize("made_up", ["nobody-s", "00000000-5", "x" * 700])
def test_a_made_up_id_is_not_searched_for(
    server: RedisServer, broker: Broker, listen: Listen, made_up: str
) -> None:
    """It costs no more than a page of what is there, however much that is."""
    broker.publish_many("a", [Event("x" * 40_000, id=f"own-{n}") for n in range(500)])
    ear = listen(broker, "a")
    before = sent_bytes(server)

    page = ear.replay("a", after=made_up)

    assert page.gone == {"a"}
    assert sent_bytes(server) - before < 1_200_000


@pytest.mark.parametrize(
    "own", ["17", 'a"b', "ä ö", "back\\slash", '", "id": "x', "\U0001f600" * 100]
)
def test_own_ids_of_any_form_are_found(broker: Broker, listen: Listen, own: str) -> None:
    """The index knows an event by its id, whatever is in that, and by nothing in its data."""
    broker.publish("a", Event({"x": 1, "id": own}))
    broker.publish("a", Event('text, "id": "17"'))
    broker.publish("a", Event("it", id=own, type="t"))
    broker.publish("a", Event({"x": 1, "id": own}, type="t"))

    replay = listen(broker).replay("a", after=own)

    assert not replay.gone
    assert len(replay.entries) == 1


# ---- lies, and rows of others


def test_a_forged_position_silences_nobody(
    server: RedisServer, broker: Broker, listen: Listen
) -> None:
    """One PUBLISH with a huge sequence of the right epoch: live and new readers hear on."""
    ear = listen(broker)
    live = ear.attach_live("a")
    epoch = broker.publish("a", Event("0")).partition("-")[0]
    wait_until(lambda: live.data == ["0"], what="the first event")
    server.ask("PUBLISH", "a", f'{{"id":"{epoch}-{2**62}", "data": "forged"}}')
    broker.publish("a", Event("1"))
    wait_until(lambda: "1" in live.data, what="the event after the forged one")
    fresh = ear.attach_live("a")
    broker.publish("a", Event("2"))

    wait_until(lambda: live.data[-1] == "2" and fresh.data == ["2"], what="the last event")

    assert live.data == ["0", "forged", "1", "2"]
    assert [e.position for e in live.entries if e.event and e.event.data == "forged"] == [""]


def test_a_bad_row_is_skipped_and_said_once(
    server: RedisServer, broker: Broker, listen: Listen, caplog: pytest.LogCaptureFixture
) -> None:
    """A row that somebody else wrote into a stream of ours costs nobody an event."""
    first = broker.publish("a", Event("first"))
    sequence = first.partition("-")[2]
    for number in (1, 2):
        place = f"{int(sequence) + number}-0"
        server.ask("XADD", "sse:events:{a}", place, "m", '"data": 1}', "a", "soon")
    server.ask("HINCRBY", "sse:log", "seq", 2)
    broker.publish("b", Event("of b"))
    broker.publish("a", Event("last"))

    replay = listen(broker).replay("a", "b", after=first)

    assert [e.event.data for e in replay.entries if e.event] == ["of b", "last"]
    assert not replay.gone
    (said,) = [r.getMessage() for r in caplog.records if "was skipped" in r.message]
    assert said == (
        f"A message on 'a' of {broker.url} was skipped, no entry of ours: "
        f"at {int(sequence) + 1}-0, published at 'soon'"
    )


# ---- one channel in trouble


def test_a_channel_that_can_t_be_read_hurts_no_other(
    server: RedisServer, broker: Broker, listen: Listen, caplog: pytest.LogCaptureFixture
) -> None:
    """Its error is said once, and once that it is over; others are read and heard all the time."""
    ear = listen(broker)
    healthy, broken = ear.attach_live("healthy"), ear.attach_live("broken")
    broker.publish("broken", Event("0"))
    wait_until(lambda: broken.data == ["0"], what="the first event")
    server.ask("RENAME", "sse:channel:{broken}", "aside")
    server.ask("SET", "sse:channel:{broken}", "mine")
    late = ear.attach("broken", after=broken.entries[0].position)
    server.ask("CLIENT", "KILL", "TYPE", "pubsub")
    wait_until(lambda: "'broken'" in caplog.text, what="a word about it")
    for number in range(3):
        broker.publish("healthy", Event(str(number)))
        ear.replay("healthy", after=None)
    wait_until(lambda: len(healthy.data) == 3, what="what is healthy")
    server.ask("RENAME", "aside", "sse:channel:{broken}")
    wait_until(lambda: "Readers of 'broken' get events from" in caplog.text, what="its end")
    broker.publish("broken", Event("1"))

    wait_until(lambda: broken.data == ["0", "1"] and late.data == ["1"], what="the rest")

    said = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    assert len([text for text in said if "Readers of 'broken' get no events" in text]) == 1
    assert len([text for text in said if "Readers of 'broken' get events" in text]) == 1
    assert not [text for text in said if "met a defect" in text]


def test_a_channel_that_the_server_refuses_hurts_no_other(
    stack: ExitStack, server: RedisServer, listen: Listen, caplog: pytest.LogCaptureFixture
) -> None:
    """Where rules name the channels, a reader of another one costs nobody the connection."""
    server.ask("ACL", "SETUSER", "u", "on", ">s", "~*", "resetchannels", "&allowed*", "+@all")
    url = f"redis://u:s@127.0.0.1:{server.port}/0"
    broker = broker_from_url(url, retention=None, timeout_s=5)
    stack.callback(broker.close)
    ear = listen(broker)
    first = ear.attach_live("allowed-1")
    ear.attach("allowed-2", "made-up")
    second = ear.attach_live("allowed-2")
    connected = server.clients("pubsub")
    for channel in ("allowed-1", "allowed-2"):
        broker.publish(channel, Event(channel))

    wait_until(lambda: first.data and second.data, what="the events")

    assert server.clients("pubsub")[0]["id"] == connected[0]["id"]
    assert len([r for r in caplog.records if "'made-up'" in r.getMessage()]) == 1
    server.ask("CLIENT", "KILL", "TYPE", "pubsub")
    wait_until(lambda: server.clients("pubsub"), what="another session")
    broker.publish("allowed-1", Event("next"))
    wait_until(lambda: first.data[-1] == "next", what="the next event")


# ---- connections


def test_a_lost_connection_is_a_failure_on_uvloop(server: RedisServer) -> None:
    """What uvloop raises of a connection that was reset counts as any other loss of it."""
    url = RedisUrl.parse(server.url, key="SSE_BROKER_URL")

    async def lose_both() -> list[str]:
        raised = []
        client = url.async_client(5)
        reader = LogReader(client, Keys("sse:"), reports=Reports("redis"), retention=None)
        await reader.begin()
        session = Session(
            asyncio.get_running_loop(), reader.make_connection(), take=bool, refused=bool
        )
        await session.connect()
        connections: list[Any] = [
            session._connection,
            *client.connection_pool._available_connections,
        ]
        for connection in connections:
            connection._writer.transport.abort()
            # redis-py looked just before it was reset.
            connection.can_read = connection.can_read_destructive = _says_no
        for _ in range(10):  # turns of the loop, in which it closes what was aborted
            await asyncio.sleep(0)
        for send in (lambda: session.send("PING"), reader.begin):
            try:
                await send()
            except FAILURES as error:
                raised.append(str(error))
        await reader.begin()  # another connection
        await session.close()
        await reader.close()
        return raised

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(lose_both()) == ["the connection was lost"] * 2


async def _says_no() -> bool:
    return False


@pytest.mark.parametrize("loop_factory", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_stopped_listener_leaves_no_connection(
    server: RedisServer, broker: Broker, loop_factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Whenever it is stopped, also while it connects, its tasks end and its sockets are closed."""

    async def begin_and_stop(turns: int) -> set[asyncio.Task[Any]]:
        listener = broker.listen(asyncio.get_running_loop(), Nobody())
        subscribed = asyncio.ensure_future(listener.subscribe(["a"]))
        for _ in range(turns % 15):
            await asyncio.sleep(0)
        await asyncio.sleep(turns * 0.0002)
        listener.stop()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        _, pending = await asyncio.wait([subscribed, *left], timeout=10)
        return pending

    for turns in range(30):
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            assert not runner.run(begin_and_stop(turns))
    with_idle = len(server.clients("normal"))

    assert not server.clients("pubsub")
    assert with_idle <= 1  # the broker's own


class Nobody:
    def deliver(self, entries: Sequence[Entry]) -> None: ...

    def interrupted(self, channels: Collection[str] | None, position: str) -> None: ...
