"""`doctor.probe`: what it takes for seen. What it sees is in tests/live/doctor."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from flask_eventstream.brokers import broker_from_url
from flask_eventstream.config import Config
from flask_eventstream.doctor.probe import Probe, _failure, _no_answer, _proxy
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.log.entries import Over
from flask_eventstream.publisher import Publisher


def a_probe(url: str = "memory://", channel: str | None = None) -> Probe:
    broker = broker_from_url(url, retention=None, timeout_s=1)
    publisher = Publisher(broker)
    return Probe(
        Config(), broker, publisher, app="shop:app", path="/stream", key=None, channel=channel
    )


@pytest.mark.parametrize(
    ("said", "proxy"),
    [
        ({}, ""),
        ({"server": "gunicorn"}, ""),
        ({"server": "Werkzeug/3.1"}, ""),
        ({"server": "nginx/1.22.1"}, "nginx/1.22.1"),
        ({"server": "gunicorn", "via": "1.1 Caddy"}, "1.1 Caddy"),
        ({"server": "cloudflare", "via": "1.1 x"}, "cloudflare"),
    ],
)
def test_what_stands_between(said: dict[str, str], proxy: str) -> None:
    """A server that is none of Python's is a proxy, and one that says Via is."""
    assert _proxy(said) == proxy


@pytest.mark.parametrize(("broken", "key"), [("", "unreachable"), ("no status line", "broken")])
def test_why_there_is_no_answer(broken: str, key: str) -> None:
    """A connection that ends is told from one on which somebody speaks another language."""
    visit: Any = type("Visited", (), {"broken": broken})()

    assert _no_answer(visit)[0] == key


@pytest.mark.parametrize(
    ("error", "key"),
    [
        (socket.gaierror(-2, "Name or service not known"), "no-host"),
        (ConnectionRefusedError(111, "Connection refused"), "refused"),
        (ssl.SSLError(1, "wrong version number"), "tls"),
        (TimeoutError("timed out"), "unreachable"),
        (OSError(113, "No route to host"), "unreachable"),
    ],
)
def test_why_there_is_no_connection(error: OSError, key: str) -> None:
    """Each way not to connect has its finding, with the system's words."""
    found, why = _failure(error)

    assert found == key
    assert why


@pytest.mark.parametrize(
    ("url", "stream"),
    [
        ("https://shop.example", "https://shop.example/stream?channel=news"),
        ("https://shop.example/", "https://shop.example/stream?channel=news"),
        ("https://shop.example/events", "https://shop.example/events?channel=news"),
        ("http://a:1/s?t=x%20y&e=&channel=b#c", "http://a:1/s?t=x+y&e=&channel=news"),
    ],
)
def test_the_address_that_is_asked(url: str, stream: str) -> None:
    """The query stays as it is but for the channel, and a site's address gets the app's path."""
    assert a_probe(channel="news")._stream_url(url) == stream


def test_a_broker_that_fails_later_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that takes no event once the stream is open is a fact and not an error."""
    probe = a_probe(channel="news")

    def refuse(*_args: object, **_more: object) -> str:
        raise BrokerUnavailable("memory://", "it is full", "make room")

    monkeypatch.setattr(Publisher, "publish", refuse)
    seen: Any = type("Seen", (), {})()
    visit: Any = None
    probe._send_probe(visit, seen)

    assert seen.trouble == ("it is full", "make room")


def test_readers_of_a_channel_get_no_flood(monkeypatch: pytest.MonkeyPatch) -> None:
    """The large event that overflows buffers goes to a channel of the doctor's own, or nowhere."""
    published: list[Any] = []
    monkeypatch.setattr(Probe, "_publish", lambda _self, data: published.append(data))
    for channel in ("news", None):
        probe = a_probe("sqlite:////nowhere/events.db", channel)
        seen: Any = type("Seen", (), {})()
        probe._flood(seen, bool)

    assert [len(data) for data in published] == [256 * 1024]


def test_a_ticket_is_good_for_one_run(tmp_path: Path) -> None:
    """The channel of an unsigned ticket is ended while the doctor looks, and no longer."""
    url = f"sqlite:///{tmp_path}/events.db"
    probe = a_probe(url)
    broker = broker_from_url(url, retention=None, timeout_s=1)
    with probe._admitted() as ticket:
        during = broker.arrive([ticket], None)
    after = broker.arrive([ticket], None)
    broker.close()

    assert isinstance(during, Over)
    assert not isinstance(after, Over)
