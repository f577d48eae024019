"""What the tests of the Redis broker have at hand."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from brokers.hearing import Ear
from flask_eventstream.brokers import Broker
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.event import Event
from harness.redis_server import RedisServer

__all__ = ["SLACK_S", "Listen", "Open", "can_publish", "keys", "publish", "refused", "says_version"]


Listen = Callable[..., Ear]


Open = Callable[..., Broker]


# What a busy machine adds to a timeout.
SLACK_S = 1.0


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
