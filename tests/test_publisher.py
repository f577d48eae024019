"""Publishing without an application, and names that channels can't have."""

from __future__ import annotations

import os
import sqlite3
from collections import UserString
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from flask import Flask

from flask_eventstream import EventStream
from flask_eventstream.access.orders import Order
from flask_eventstream.brokers import Broker, broker_from_url, check_channel
from flask_eventstream.brokers.memory import MemoryBroker
from flask_eventstream.brokers.sqlite.broker import SqliteBroker
from flask_eventstream.errors import (
    BrokerUnavailable,
    EventTooLarge,
    InvalidChannel,
    InvalidConfig,
    InvalidEvent,
    InvalidGrant,
)
from flask_eventstream.event import Event
from flask_eventstream.log.entries import CONTROL_CHANNEL
from flask_eventstream.publisher import Publisher
from harness.stage import has_ended


class Room(str, Enum):
    """Channels as an application may keep them."""

    LOBBY = "lobby"


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker("memory://", retention=None)


@pytest.fixture
def start(broker: MemoryBroker) -> str:
    """The position before everything that the test publishes."""
    return broker.publish("sse", Event("start"))


@pytest.fixture
def publisher(broker: MemoryBroker) -> Publisher:
    return Publisher(broker, max_event_bytes=10)


def published(broker: MemoryBroker, start: str, channel: str = "sse") -> list[Event | None]:
    return [entry.event for entry in broker.read([channel], start).entries]


def test_the_channel_is_sse_unless_said(
    publisher: Publisher, broker: MemoryBroker, start: str
) -> None:
    """An event without a channel goes where the older extensions sent it."""
    publisher.publish("x")
    publisher.publish("y", channel="other")

    assert published(broker, start) == [Event("x")]
    assert published(broker, start, "other") == [Event("y")]


def test_all_fields_are_published(publisher: Publisher, broker: MemoryBroker, start: str) -> None:
    """Type, id and retry can be given by place, as the older extensions took them."""
    assert publisher.publish({"a": 1}, "t", "own", 5) == "own"

    assert published(broker, start) == [Event('{"a": 1}', "t", "own", 5)]


def test_an_event_is_published_as_it_is(
    publisher: Publisher, broker: MemoryBroker, start: str
) -> None:
    """An Event may stand in the data's place."""
    event = Event("x", "t", "own", 5)
    publisher.publish(event)

    assert published(broker, start) == [event]


def test_the_id_is_the_position(publisher: Publisher, broker: MemoryBroker) -> None:
    """Without an own id, the id of the event is where it stands in the log."""
    first = publisher.publish("1")
    publisher.publish("2")

    assert published(broker, first) == [Event("2")]


def test_several_are_published_in_order(
    publisher: Publisher, broker: MemoryBroker, start: str
) -> None:
    """`publish_many` publishes texts, objects and events in order, and gives their ids."""
    ids = publisher.publish_many(["1", {"a": 1}, Event("3", id="own")])

    assert published(broker, start) == [Event("1"), Event('{"a": 1}'), Event("3", id="own")]
    assert ids[2] == "own"
    assert published(broker, ids[0]) == published(broker, start)[1:]


def test_one_invalid_event_stops_all(
    publisher: Publisher, broker: MemoryBroker, start: str
) -> None:
    """When one of several events can't be carried, none is published."""
    with pytest.raises(InvalidEvent):
        publisher.publish_many(["1", b"2"])

    assert published(broker, start) == []


def test_one_event_to_many_channels(publisher: Publisher, broker: MemoryBroker, start: str) -> None:
    """`publish_to` gives each channel the event, once, and its id there by the channel's name."""
    ids = publisher.publish_to(["sse", 7, b"b", "sse"], {"a": 1}, type="t", retry=5)

    assert list(ids) == ["sse", "7", "b"]
    assert published(broker, start) == [Event('{"a": 1}', "t", None, 5)]
    assert broker.read(["7"], start).entries[0].position == ids["7"]
    assert broker.read(["b"], start).entries[0].position == ids["b"]


def test_a_client_is_excluded(publisher: Publisher, broker: MemoryBroker, start: str) -> None:
    """Each way of publishing takes the client that shall not get the events."""
    publisher.publish("1", exclude="me")
    publisher.publish(Event({"a": 1}, type="t"), exclude="me")
    publisher.publish_many(["3", Event("4")], exclude="me")
    publisher.publish_to(["sse"], "5", exclude="me")
    publisher.publish("6", exclude="")
    publisher.publish("7", exclude=7)

    found = published(broker, start)

    assert [event.exclude for event in found] == ["me"] * 5 + [None, "7"]
    assert found[1] == Event({"a": 1}, type="t", exclude="me")
    assert found[1].is_json


@pytest.mark.parametrize("name", ["a\nb", " a", "x" * 201, "\ud800", True, b"x"], ids=repr)
def test_nobody_is_called_so(publisher: Publisher, name: Any) -> None:
    """A name that no client can have is refused."""
    with pytest.raises(InvalidEvent, match="event exclude"):
        publisher.publish("x", exclude=name)


def test_no_channel_at_all(publisher: Publisher) -> None:
    """`publish_to` of no channel publishes nothing."""
    assert publisher.publish_to([], "x") == {}
    assert publisher.publish_to((name for name in ()), "x") == {}


@pytest.mark.parametrize(
    ("channels", "data", "why"),
    [
        (["sse", ""], "x", "is empty"),
        (["sse", "__x"], "x", "two underscores"),
        ("sse", "x", "is one channel, and publish_to takes several"),
        (b"sse", "x", "is one channel, and publish_to takes several"),
        (["sse"], b"bytes", "is bytes"),
        (["sse"], "x" * 11, "more than the limit"),
    ],
)
def test_publish_to_is_checked_first(
    publisher: Publisher, broker: MemoryBroker, start: str, channels: Any, data: Any, why: str
) -> None:
    """Where a name or the event is wrong, no channel has it."""
    with pytest.raises((InvalidEvent, InvalidChannel), match=why):
        publisher.publish_to(channels, data)

    assert published(broker, start) == []


@pytest.mark.parametrize("data", ["x" * 10, "żżżżż"])
def test_the_largest_event_is_published(publisher: Publisher, data: str) -> None:
    """Data of exactly the limit's size is published."""
    assert publisher.publish(data)


@pytest.mark.parametrize(
    "items", ["text", b"x", {"a": 1}, Event("x"), memoryview(b"x")], ids=lambda x: type(x).__name__
)
def test_one_is_not_several(
    publisher: Publisher, broker: MemoryBroker, start: str, items: Any
) -> None:
    """`publish_many` of a single thing is refused, and does not publish its letters or keys."""
    with pytest.raises(InvalidEvent, match="is one event, and publish_many takes several"):
        publisher.publish_many(items)

    assert published(broker, start) == []


@pytest.mark.parametrize("data", ["x" * 11, "żżżżżx", Event("x" * 11), ["x" * 8]], ids=repr)
def test_too_large_an_event_is_refused(
    publisher: Publisher, broker: MemoryBroker, start: str, data: Any
) -> None:
    """Data beyond the limit is refused, however it is given, and nothing is published."""
    with pytest.raises(EventTooLarge, match="more than the limit of 10"):
        publisher.publish(data)

    assert published(broker, start) == []


def test_closing_ends_the_channel(publisher: Publisher, broker: MemoryBroker) -> None:
    """`end` ends a channel, and an event opens it again."""
    publisher.end("a")
    assert has_ended(broker, ["a"], None)

    publisher.publish("x", channel="a")
    assert not has_ended(broker, ["a"], None)


def test_a_closed_publisher_opens_again(tmp_path: Path) -> None:
    """`close` frees what the publisher had open, and whoever publishes after it opens it anew."""
    publisher = Publisher(f"sqlite:///{tmp_path}/events.db")
    publisher.publish("1")
    publisher.close()
    publisher.close()
    assert open_files(tmp_path) == []

    publisher.publish("2")
    assert open_files(tmp_path) != []
    publisher.close()


def test_a_with_block_closes(tmp_path: Path) -> None:
    """At the end of its `with` block a publisher has nothing open, also after an error."""
    url = f"sqlite:///{tmp_path}/events.db"
    with pytest.raises(InvalidEvent), Publisher(url) as publisher:
        publisher.publish_many(["1", b"2"])

    assert open_files(tmp_path) == []


def open_files(folder: Path) -> list[str]:
    """The files in a folder that this process has open."""
    files = [os.path.realpath(each) for each in Path("/proc/self/fd").iterdir()]
    return [name for name in files if name.startswith(str(folder))]


# ---- channels


@pytest.mark.parametrize("channel", ["a", "sse", "ä:ö/1", " ", "x" * 200, "ż" * 100, "🙂"])
def test_text_can_be_a_channel(channel: str) -> None:
    """Printable text up to 200 bytes names a channel."""
    assert check_channel(channel) == channel


@pytest.mark.parametrize(
    ("channel", "name"),
    [
        *((42, "42"), (4.5, "4.5"), (b"caf\xc3\xa9", "café"), (Decimal("1.0"), "1.0")),
        *((UserString("a"), "a"), (Room.LOBBY, "lobby")),
        (UUID(int=5), "00000000-0000-0000-0000-000000000005"),
    ],
)
def test_what_has_one_obvious_text_names_a_channel(
    publisher: Publisher, broker: MemoryBroker, start: str, channel: Any, name: str
) -> None:
    """A primary key, whatever kind of number it is, names the channel that its text names."""
    publisher.publish("1", channel=channel)
    publisher.publish_many(["2"], channel=channel)

    assert published(broker, start, name) == [Event("1"), Event("2")]
    publisher.end(channel)
    assert has_ended(broker, [name], None)


@pytest.mark.parametrize(
    ("channel", "why"),
    [
        ("", "is empty: name a channel, or leave it out for 'sse'"),
        (None, "must be text or a number, not NoneType: leave it out for 'sse'"),
        (True, "must be text or a number, not bool"),
        (float("nan"), "must be text or a number, not float"),
        (["a"], "must be text or a number, not list"),
        (b"\xff", "is bytes that are no UTF-8: give it as text"),
        (b"a\n", "has a control character: use printable text"),
        ("a\nb", "has a control character: use printable text"),
        ("\0", "has a control character: use printable text"),
        ("\x7f", "has a control character: use printable text"),
        ("\ud800", "has a lone surrogate, which UTF-8 can't carry"),
        ("x" * 201, "is longer than 200 bytes: shorten it"),
        ("ż" * 101, "is longer than 200 bytes: shorten it"),
    ],
)
def test_what_is_no_channel(publisher: Publisher, channel: Any, why: str) -> None:
    """A name that can't be one is refused with the reason, wherever it is used."""
    for use in (
        lambda: publisher.publish("x", channel=channel),
        lambda: publisher.publish_many(["x"], channel=channel),
        lambda: publisher.end(channel),
    ):
        with pytest.raises(InvalidChannel) as caught:
            use()
        assert caught.value.why == why


# ---- URLs


@pytest.fixture
def made() -> Iterator[list[Broker]]:
    brokers: list[Broker] = []
    yield brokers
    for broker in brokers:
        broker.close()


def test_a_url_is_enough(tmp_path: Path) -> None:
    """A publisher of a file's URL publishes where every other of that URL does."""
    url = f"sqlite:///{tmp_path / 'events.db'}"
    first = Publisher(url).publish("1")
    second = Publisher(url).publish("2")

    log = SqliteBroker(tmp_path / "events.db", retention=None, timeout_s=5).open_log(busy_s=1)
    assert [entry.position for entry in log.read(["sse"], first).entries] == [second]
    log.close()


@pytest.mark.parametrize(
    "given",
    [None, 5, Path("events.db"), b"sqlite:///events.db", EventStream(), Flask("x")],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_broker(given: Any) -> None:
    """What is no URL, such as an application, is refused with what to give instead."""
    why = f"a publisher of {type(given).__name__} reaches nobody: give it a URL such as"
    with pytest.raises(InvalidConfig, match=why):
        Publisher(given)


@pytest.mark.parametrize("name", ["timeout_s", "max_event_bytes"])
@pytest.mark.parametrize("value", ["5", None, 0, -1, True, float("nan")])
def test_a_publishers_numbers_are_numbers(name: str, value: Any) -> None:
    """A time-out or a bound that is no number above 0 is refused with its name."""
    with pytest.raises(InvalidConfig, match=f"a publisher's {name} is .*a number above 0"):
        Publisher("sqlite:///events.db", **{name: value})


def test_memory_can_not_be_shared() -> None:
    """A publisher of its own process's memory would reach nobody: it is refused."""
    with pytest.raises(InvalidConfig, match="a publisher needs sqlite:///path"):
        Publisher("memory://")


def test_the_timeout_is_the_publishers(tmp_path: Path) -> None:
    """A publisher whose file is out of reach fails with what to do."""
    with pytest.raises(BrokerUnavailable, match=r"create .*missing"):
        Publisher(f"sqlite:///{tmp_path}/missing/events.db", timeout_s=0.1).publish("x")


@pytest.mark.parametrize(
    ("url", "path"),
    [("sqlite:////var/x.db", "/var/x.db"), ("sqlite:///x.db", f"{Path.cwd()}/x.db")],
)
def test_sqlite_urls_name_files(url: str, path: str) -> None:
    """Three slashes and a relative path, or four with an absolute one."""
    broker = broker_from_url(url, retention=None, timeout_s=5)

    assert broker.url == f"sqlite:///{path}"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("events.db", "is no URL"),
        ("sqlite:events.db", "is no URL"),
        ("sqlite://events.db", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite:///:memory:", "write memory://"),
        ("sqlite:////usr/", "names a folder: write the file, too, as in sqlite:////usr/events.db"),
        ("sqlite:////tmp", "names a folder"),
        ("sqlite:///events.db?timeout=5", "there are none: write sqlite:///events.db"),
        ("redis//localhost", "is no URL: write redis://HOST"),
        ("memory://somewhere", "nothing behind it"),
        ("amqp://host", "no broker for amqp://"),
    ],
)
def test_urls_that_name_no_broker(url: str, why: str) -> None:
    """A URL of no broker is refused with the key that holds it, the URL, and what to write."""
    with pytest.raises(InvalidConfig, match=why) as caught:
        broker_from_url(url, retention=None, timeout_s=5, key="THE_KEY")

    assert f"THE_KEY is {url!r}" in str(caught.value)


@pytest.mark.parametrize(
    "url", ["amqp://:s3cret@host", "redis//u:s3cret@host/0", "http://u:s3c@s3cret@host"]
)
def test_a_url_of_no_broker_keeps_its_password(url: str) -> None:
    """The error about a URL that was mistyped says what may be a password to nobody."""
    with pytest.raises(InvalidConfig) as caught:
        broker_from_url(url, retention=None, timeout_s=5)

    assert "s3c" not in str(caught.value)
    assert "host" in str(caught.value)


def test_a_sqlite_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python came with a SQLite that can't do it, that is said at the start."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 23, 1))
    monkeypatch.setattr(sqlite3, "sqlite_version", "3.23.1")

    with pytest.raises(InvalidConfig, match=r"needs SQLite 3\.24\.0, and this Python has 3\.23\.1"):
        broker_from_url("sqlite:///events.db", retention=None, timeout_s=5)


# ---- disconnecting


def orders(broker: MemoryBroker) -> list[Order | None]:
    newest = broker.newest(CONTROL_CHANNEL, 10)
    return [Order.decode(entry.event.data) for entry in newest if entry.event]


def test_disconnect_orders_it(publisher: Publisher, broker: MemoryBroker) -> None:
    """What is to be disconnected stands in a control entry; numbers become text."""
    publisher.disconnect(7)  # type: ignore[arg-type]  # as publish takes it
    publisher.disconnect(subject=8)
    publisher.disconnect("a", "ann")

    assert orders(broker) == [Order("7"), Order(None, "8"), Order("a", "ann")]


def test_nobody_is_not_everybody(publisher: Publisher, broker: MemoryBroker) -> None:
    """To disconnect or revoke nobody is refused in words: it would be everybody."""
    with pytest.raises(ValueError, match="both are None"):
        publisher.disconnect()
    with pytest.raises(InvalidGrant, match="missing"):
        publisher.revoke(None)  # type: ignore[arg-type]
    with pytest.raises(InvalidGrant):
        publisher.disconnect(subject="")
    with pytest.raises(InvalidChannel):
        publisher.disconnect("__control")

    assert orders(broker) == []


def test_revoke_disconnects_too(publisher: Publisher, broker: MemoryBroker) -> None:
    """A revoked subject's streams end as well."""
    publisher.revoke("ann")

    assert orders(broker) == [Order(None, "ann")]


def test_a_broker_that_can_not_is_named() -> None:
    """A broker of somebody's own that has no control entries says so."""

    class Poor:
        listen = None

    publisher = Publisher(Poor())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="Poor can't do that: it lacks control"):
        publisher.disconnect("a")
    with pytest.raises(TypeError, match="lacks remember and recall"):
        publisher.revoke("ann")
