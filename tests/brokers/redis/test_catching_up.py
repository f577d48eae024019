"""`redis.catching_up`: each channel goes on from where it stands."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest

from brokers.hearing import Loop
from brokers.redis.at_hand import (
    Listen,
    Open,
    publish,
)
from flask_eventstream.event import Event
from flask_eventstream.log.position import Position
from harness.redis_server import run_redis
from harness.waiting import wait_until

pytestmark = pytest.mark.real


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
