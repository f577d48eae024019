"""Which client does not get an event, in every broker: it is carried, and never shown."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from brokers.hearing import Ear
from flask_eventstream.brokers import Broker, broker_from_url
from flask_eventstream.brokers.redis.message import decode_message, encode_body
from flask_eventstream.event import Event
from harness.redis_server import run_redis

Listen = Callable[..., Ear]

EVENTS = [
    Event("x", exclude="page-1"),
    Event("x", type="note", id="own-1", retry=7, exclude='", "id": "ż'),
    Event({"id": "7", "type": {"exclude": "nobody"}}, exclude="page 2"),
    Event({"id": "7"}, type="note", exclude="p"),
    Event('{"exclude": "x"}'),
]


@pytest.mark.real
@pytest.mark.parametrize("event", EVENTS, ids=repr)
def test_the_log_carries_it(broker: Broker, listen: Listen, event: Event) -> None:
    """Live and from the log the event has the client it leaves out, and its bytes do not."""
    ear = listen(broker, "a", "b")
    start = ear.replay("a", after=None).position

    broker.publish("a", event)
    broker.publish_many("a", [event])
    broker.publish_to(["a", "b"], event)

    ear.wait_heard(4)
    found = [*ear.heard, *ear.replay("a", "b", after=start).entries]
    assert [one.event for one in found] == [event] * 8
    assert [one.exclude for one in found] == [event.exclude] * 8
    plain = Event(event.data, event.type, event.id, event.retry)
    assert {one.frame for one in found} == {plain.encode(one.position) for one in found}
    assert found[0].event is not None
    assert found[0].event.is_json == event.is_json


@pytest.mark.parametrize("event", EVENTS, ids=repr)
def test_older_readers_of_redis_see_nothing_of_it(event: Event) -> None:
    """flask-sse 1.0 takes the message's keys as arguments: those four, and no other."""
    message = '{"id":"aaaaaaaa-17", ' + encode_body(event)

    seen = json.loads(message)

    assert set(seen) <= {"data", "type", "id", "retry"}
    assert seen.get("type") == event.type
    assert seen["id"] == (event.id or "aaaaaaaa-17")
    assert decode_message(message.encode()).event == event


@pytest.mark.real
def test_the_index_of_own_ids_has_nothing_of_it() -> None:
    """A name that looks like an own id is none to Redis' index of them."""
    with run_redis() as server:
        broker = broker_from_url(server.url, retention=None, timeout_s=5)
        broker.publish("a", Event({"id": "7"}, exclude='x", "id": "8'))
        broker.publish("a", Event("x", id="real", exclude='x", "id": "8'))

        assert server.ask("ZRANGE", "sse:ids:{a}", 0, -1) == ["real"]
        broker.close()
