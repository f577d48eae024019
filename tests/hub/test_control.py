"""Orders of other processes: the streams that end by them, and those that go on."""

from __future__ import annotations

import _socket
import re
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from flask_eventstream.errors import EndReason
from flask_eventstream.event import Event
from flask_eventstream.hub.deciding import Deciding
from flask_eventstream.hub.hub import Hub
from flask_eventstream.hub.request import Reader
from flask_eventstream.log.entries import CONTROL_CHANNEL
from flask_eventstream.publisher import Publisher
from harness.stage import LOOPS, Client, Log, Stage, perform, until
from hub.at_hand import HEAD

Play = Callable[[Callable[[Stage], Coroutine[Any, Any, None]]], None]

DISCONNECTED = EndReason.DISCONNECTED.value


@pytest.fixture(params=LOOPS)
def play(request: pytest.FixtureRequest) -> Play:
    """Run a scenario on each kind of loop."""
    return lambda scenario: perform(LOOPS[request.param], scenario)


class ControlledLog(Log):
    """The stage's log, with control entries."""

    def control(self, text: str) -> str:
        return self.memory.control(text)

    @property
    def publisher(self) -> Publisher:
        return Publisher(self)

    def lose(self, *channels: str) -> None:
        """Tell the listener's inbox that something of these channels is gone."""
        inner: Any = self.listeners[-1]._inner
        inner._inbox.interrupted(channels, "00000000-0")


def of(subject: str | None = None, **more: Any) -> Reader:
    return Reader(subject=subject, **more)


async def hearing(hub: Hub) -> None:
    await until(lambda: hub.hears, what="the hub to hear control entries")


async def ended(hub: Hub, count: int) -> None:
    await until(
        lambda: hub.stats().ended.get(DISCONNECTED, 0) == count, what=f"{count} disconnected"
    )


async def is_alive(log: Log, client: Client, channel: str) -> None:
    """An event of the channel comes to the client."""
    log.publish(channel, Event("alive"))
    await client.until(lambda c: "alive" in c.data, "an event")
    assert not client.ended


# ---- live


def test_a_subjects_streams_end_and_no_others(play: Play) -> None:
    """A disconnected subject's streams end, with a retry within a second; all others go on."""

    async def scenario(stage: Stage) -> None:
        log = ControlledLog()
        hub = stage.hub(broker=log, random=0.25)
        theirs = [await stage.opened(hub, c, reader=of("ann")) for c in ("a", "b")]
        others = [await stage.opened(hub, "a", reader=of(s)) for s in ("bob", None)]
        await hearing(hub)

        log.publisher.disconnect(subject="ann")

        await ended(hub, 2)
        for client in theirs:
            await client.end()
            assert bytes(client.raw).endswith(b"retry: 250\n")
        for client in others:
            await is_alive(log, client, "a")

    play(scenario)


def test_a_channels_streams_end_and_no_others(play: Play) -> None:
    """Streams that read a disconnected channel, alone or among others, end; all others go on."""

    async def scenario(stage: Stage) -> None:
        log = ControlledLog()
        hub = stage.hub(broker=log)
        readers = [await stage.opened(hub, *c) for c in (("a",), ("a", "b"))]
        other = await stage.opened(hub, "b")
        await hearing(hub)

        log.publisher.disconnect("nobody's")
        log.publisher.disconnect("a")

        await ended(hub, 2)
        for client in readers:
            await client.end()
        await is_alive(log, other, "b")

    play(scenario)


def test_a_subject_on_a_channel(play: Play) -> None:
    """With both given, a stream must match both."""

    async def scenario(stage: Stage) -> None:
        log = ControlledLog()
        hub = stage.hub(broker=log)
        match = await stage.opened(hub, "a", reader=of("ann"))
        elsewhere = await stage.opened(hub, "b", reader=of("ann"))
        other = await stage.opened(hub, "a", reader=of("bob"))
        await hearing(hub)

        log.publisher.disconnect("a", "ann")

        await match.end()
        await ended(hub, 1)
        await is_alive(log, elsewhere, "b")
        await is_alive(log, other, "a")

    play(scenario)


def test_a_client_that_takes_nothing_is_cut(play: Play) -> None:
    """A disconnected client that reads nothing keeps neither its connection nor what waits."""

    async def scenario(stage: Stage) -> None:
        log = ControlledLog()
        hub = stage.hub(broker=log, max_buffer_bytes=10_000_000)
        client = await stage.opened(hub, "a", reader=of("ann"), buffer_bytes=4096)
        await hearing(hub)
        client.reads = False
        log.publish("a", Event("x" * 2_000_000))
        await until(lambda: hub._fan_out.deliveries, what="the event to be written")

        log.publisher.disconnect(subject="ann")

        await ended(hub, 1)

    play(scenario)


def test_what_is_no_order_ends_nothing(play: Play) -> None:
    """Control entries of other meanings are passed over."""

    async def scenario(stage: Stage) -> None:
        log = ControlledLog()
        hub = stage.hub(broker=log)
        client = await stage.opened(hub, "a", reader=of("ann"))
        await hearing(hub)

        for text in ("", "{", "[]", "{}", '{"do": "disconnect"}', '{"do": "x", "channel": "a"}'):
            log.control(text)
        log.control('{"do": "disconnect", "channel": 1, "subject": ["ann"]}')

        await is_alive(log, client, "a")

    play(scenario)


# ---- on its way


def test_an_order_between_decision_and_adoption(play: Play) -> None:
    """A stream ends that was decided before a disconnect and comes to the hub after it."""

    async def scenario(stage: Stage) -> None:
        log = ControlledLog()
        hub = stage.hub(broker=log)
        await stage.opened(hub, "a")
        await hearing(hub)
        decided_s = time.monotonic()
        log.publisher.disconnect(subject="ann")
        await until(lambda: hub._control._heard, what="the order to be heard")

        late = stage.client(hub, "a", reader=of("ann", decided_at_s=decided_s))
        again = await stage.opened(hub, "a", reader=of("ann", decided_at_s=time.monotonic()))
        other = await stage.opened(hub, "a", reader=of("bob", decided_at_s=decided_s))

        await late.end()
        await ended(hub, 1)
        await is_alive(log, again, "a")
        await is_alive(log, other, "a")

    play(scenario)


def test_an_order_before_the_first_stream_comes(play: Play) -> None:
    """The same where the hub had no stream yet: it begins where the decision did."""

    async def scenario(stage: Stage) -> None:
        log = ControlledLog()
        hub = stage.hub(broker=log)
        log.publisher.disconnect(subject="bob")  # before the decision
        decision = Deciding(log).begin(hears=hub.hears)
        assert decision.position is not None
        log.publisher.disconnect(subject="ann")
        late = {"decided_at_s": decision.at_s, "control_position": decision.position}

        first = stage.client(hub, "a", reader=of("ann", **late))
        other = await stage.opened(hub, "a", reader=of("bob", **late))

        await first.end()
        await ended(hub, 1)
        await hearing(hub)
        await is_alive(log, other, "a")

    play(scenario)


def test_an_order_while_a_stream_is_opened(play: Play) -> None:
    """A stream that waits for its server's head ends by an order that comes meanwhile."""

    async def scenario(stage: Stage) -> None:
        log = ControlledLog()
        hub = stage.hub(broker=log)
        await stage.opened(hub, "a")
        await hearing(hub)
        server, theirs = socket.socketpair()
        pair = _socket.socket(fileno=theirs.detach())
        pair.settimeout(0)
        reader = of("ann", decided_at_s=time.monotonic())
        waiting = stage.client(hub, "a", reader=reader, head_pair=pair)
        await until(lambda: stage.opening(hub) == 1, what="it to wait for its head")

        log.publisher.disconnect(subject="ann")

        await waiting.end()
        await ended(hub, 1)
        server.close()

    play(scenario)


def test_an_order_before_the_head_ends_in_words(play: Play) -> None:
    """A stream that was ended before its server wrote its head gets the head, a retry, its end."""

    async def scenario(stage: Stage) -> None:
        log = ControlledLog()
        hub = stage.hub(broker=log)
        await stage.opened(hub, "a")
        await hearing(hub)
        server, theirs = socket.socketpair()
        pair = _socket.socket(fileno=theirs.detach())
        pair.settimeout(0)
        reader = of("ann", decided_at_s=time.monotonic())
        client = stage.client(hub, "a", reader=reader, head_pair=pair)
        await until(lambda: stage.opening(hub) == 1, what="it to wait for its head")
        log.publisher.disconnect(subject="ann")
        await until(lambda: any(s.ending for s in hub._streams), what="the order to be heard")

        server.sendall(HEAD)
        server.close()

        await client.end()
        await ended(hub, 1)
        head, _, body = bytes(client.raw).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK")
        assert re.fullmatch(rb"retry: [0-9]+\n", body)

    play(scenario)


def test_who_was_decided_in_the_dark_is_asked_again(play: Play) -> None:
    """Where nobody can tell what was ordered since a decision, the stream ends; a free one not."""

    async def scenario(stage: Stage) -> None:
        log = ControlledLog()
        hub = stage.hub(broker=log)
        decided_s = time.monotonic()

        unknown = stage.client(hub, "a", reader=of(decided_at_s=decided_s))
        free = await stage.opened(hub, "a")

        await unknown.end()
        await ended(hub, 1)
        later = stage.client(hub, "a", reader=of(decided_at_s=decided_s))
        await later.end()
        await is_alive(log, free, "a")

    play(scenario)


# ---- what is lost


def test_an_order_while_the_log_is_away(play: Play) -> None:
    """What was ordered while the log could not be read is obeyed when it can."""

    async def scenario(stage: Stage) -> None:
        log = ControlledLog()
        hub = stage.hub(broker=log)
        decision = Deciding(log).begin(hears=False)
        log.present.clear()
        reader = of("ann", decided_at_s=decision.at_s, control_position=decision.position)
        client = stage.client(hub, "a", reader=reader)
        await client.opened()
        log.publisher.disconnect(subject="ann")

        log.present.set()

        await client.end()
        await ended(hub, 1)

    play(scenario)


def test_lost_orders_end_whoever_was_decided(play: Play) -> None:
    """Where control entries may be lost, streams somebody decided are asked again; others go on."""

    async def scenario(stage: Stage) -> None:
        log = ControlledLog()
        hub = stage.hub(broker=log)
        free = await stage.opened(hub, "a")
        await hearing(hub)
        named = await stage.opened(hub, "a", reader=of("ann"))
        decided = await stage.opened(hub, "a", reader=of(decided_at_s=time.monotonic()))

        log.lose("a")
        await is_alive(log, named, "a")
        log.lose(CONTROL_CHANNEL)

        await named.end()
        await decided.end()
        await ended(hub, 2)
        await is_alive(log, free, "a")

    play(scenario)


# ---- what it costs


def test_nothing_is_kept_of_streams_that_are_gone(play: Play) -> None:
    """The index of subjects is empty when their streams are gone."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub(broker=ControlledLog())
        clients = [await stage.opened(hub, "a", reader=of(s)) for s in ("ann", "ann", None)]
        assert len(hub._control._of_subject["ann"]) == 2

        for client in clients:
            client.close()
        await until(lambda: not hub.stats().streams, what="the streams to be gone")

        assert hub._control._of_subject == {}

    play(scenario)


def test_a_resting_hub_hears_nothing_and_begins_again(play: Play) -> None:
    """A hub that stopped listening says so, and the next stream makes it listen again."""

    async def scenario(stage: Stage) -> None:
        log = ControlledLog()
        hub = stage.hub(broker=log)
        await stage.opened(hub, "a", reader=of("ann"))
        await hearing(hub)
        await hub.end_all(1)
        assert not hub.hears

        again = await stage.opened(hub, "a", reader=of("ann"))
        await hearing(hub)
        log.publisher.disconnect(subject="ann")

        await again.end()

    play(scenario)


def test_a_log_without_control_entries(play: Play) -> None:
    """A broker of somebody's own that has no control entries serves streams as before."""

    async def scenario(stage: Stage) -> None:
        hub = stage.hub()
        client = await stage.opened(hub, "a", reader=of("ann", decided_at_s=time.monotonic()))

        await is_alive(stage.log, client, "a")
        assert not hub.hears

    play(scenario)
