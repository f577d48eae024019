"""Chromium is cut off from the server, and comes back to every event that it missed."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest

from flask_eventstream import Publisher
from harness.servers import Server
from harness.streams import Reader
from harness.waiting import wait_until
from live.browser.chromium import Tab

Start = Callable[..., Server]


@pytest.fixture
def publisher(broker_url: str) -> Publisher:
    """Publishes from the test's own process, whether a server runs or not."""
    return Publisher(broker_url)


def publish(publisher: Publisher, texts: Sequence[str], channel: str = "news") -> None:
    for text in texts:
        publisher.publish(text, channel=channel)


class Received(NamedTuple):
    data: list[str]
    ids: list[str]
    resets: list[dict[str, Any]]


def received(tab: Tab) -> Received:
    events, resets = tab.run("return [received, resets]")
    return Received([e["data"] for e in events], [e["id"] for e in events], resets)


def wait_received(tab: Tab, expected: Sequence[str], *, within_s: float = 20) -> None:
    """Waits for the last of these events; then all are there, in order, once, and no reset."""
    last = expected[-1]
    wait_until(lambda: last in received(tab).data, within_s=within_s, what=f"the event {last!r}")
    got = received(tab)

    assert got.data == list(expected)
    assert got.resets == []
    assert len(set(got.ids)) == len(expected)


def wait_opened(tab: Tab, times: int) -> None:
    wait_until(
        lambda: tab.run("return opened === arguments[0]", times),
        within_s=20,
        what=f"the page to have opened its stream {times} times",
    )


def open_page(tab: Tab, server: Server, query: str = "channel=news") -> None:
    tab.open(f"{server.url}/?{query}")
    wait_opened(tab, 1)


def wait_position_sent(tab: Tab, server: Server) -> None:
    """Waits until the page's stream has been told its position.

    The page cannot see that: a position without data is no event. But there is one hub, which
    serves streams in the order in which they came: when a later one was told, the page's was, too.
    """
    like_the_page = {"User-Agent": str(tab.run("return navigator.userAgent"))}
    with Reader(f"{server.url}/stream?channel=news", headers=like_the_page) as reader:
        wait_until(lambda: b"\nid: " in reader.raw, what="a later stream to know its position")


def publish_until(
    publisher: Publisher, enough: Callable[[], bool], *, first: int = 0, what: str
) -> list[str]:
    """Publishes numbers, from `first` on, until it is enough. Gives what it has published."""
    texts: list[str] = []

    def publish_one() -> bool:
        texts.append(str(first + len(texts)))
        publisher.publish(texts[-1], channel="news")
        return enough()

    wait_until(publish_one, within_s=20, what=what)
    return texts


def test_misses_nothing(tab: Tab, start: Start, publisher: Publisher) -> None:
    """A page gets what was published before, while and after its server was killed."""
    before = [f"before {number}" for number in range(3)]
    meanwhile = [f"meanwhile {number}" for number in range(50)]
    server = start()
    open_page(tab, server)
    publish(publisher, before)
    wait_received(tab, before)
    server.kill()
    publish(publisher, meanwhile)
    start(port=server.port)
    wait_opened(tab, 2)
    publish(publisher, ["after"])

    wait_received(tab, [*before, *meanwhile, "after"])


def test_misses_nothing_before_its_first_event(
    tab: Tab, start: Start, publisher: Publisher
) -> None:
    """A page that had not received a single event before the cut misses nothing either."""
    publish(publisher, ["long ago"])
    server = start()
    open_page(tab, server)
    wait_position_sent(tab, server)
    server.kill()
    publish(publisher, ["one", "two"])
    start(port=server.port)

    wait_received(tab, ["one", "two"])


def test_misses_nothing_on_a_new_channel(tab: Tab, start: Start, publisher: Publisher) -> None:
    """The same on a channel on which nothing had ever been published when the page came."""
    server = start()
    open_page(tab, server)
    wait_position_sent(tab, server)
    server.kill()
    publish(publisher, ["the very first"])
    start(port=server.port)

    wait_received(tab, ["the very first"])


@pytest.mark.parametrize("kind", ["gunicorn-sync", "gunicorn-gthread", "werkzeug"])
def test_cut_after_cut(kind: str, tab: Tab, start: Start, publisher: Publisher) -> None:
    """Three cuts in a row, each amid events that nobody waited for, lose and double nothing."""
    texts = [str(number) for number in range(200)]
    parts = iter(texts[first : first + 20] for first in range(0, 200, 20))
    server = start(kind)
    open_page(tab, server)
    # A page that has had nothing and knows no position would begin at the present.
    publish(publisher, first := next(parts))
    wait_received(tab, first)
    for cut in range(3):
        publish(publisher, next(parts))
        server.kill()
        publish(publisher, next(parts))
        server = start(kind, port=server.port)
        wait_opened(tab, cut + 2)
        publish(publisher, next(parts))

    wait_received(tab, texts)


def test_two_channels_on_one_stream(tab: Tab, start: Start, publisher: Publisher) -> None:
    """A stream of two channels resumes both of them."""
    server = start()
    open_page(tab, server, "channel=a&channel=b")
    publish(publisher, ["a1"], channel="a")
    wait_received(tab, ["a1"])
    server.kill()
    publish(publisher, ["b1"], channel="b")
    publish(publisher, ["a2"], channel="a")
    publish(publisher, ["b2"], channel="b")
    start(port=server.port)
    wait_until(lambda: len(received(tab).data) >= 4, within_s=20, what="four events")

    got = received(tab)
    assert [text for text in got.data if text.startswith("a")] == ["a1", "a2"]
    assert [text for text in got.data if text.startswith("b")] == ["b1", "b2"]
    assert got.resets == []


def test_missed_events_are_whole(tab: Tab, start: Start, publisher: Publisher) -> None:
    """Type, text and the caller's id of a missed event are what they would have been live."""
    text = "first line\n  second: «ü» 🎉\n"
    server = start()
    open_page(tab, server)
    publisher.publish(text, type="note", id="mine-1", channel="news")
    wait_received(tab, [text])
    server.kill()
    publisher.publish(text + "missed", type="note", id="mine-2", channel="news")
    start(port=server.port)
    wait_received(tab, [text, text + "missed"])

    assert tab.run("return received.map(event => event.type)") == ["note", "note"]
    assert received(tab).ids == ["mine-1", "mine-2"]


def test_reload_loses_nothing(tab: Tab, start: Start, publisher: Publisher) -> None:
    """A graceful reload (SIGHUP) amid events moves the page to the new worker without a loss."""
    server = start()
    open_page(tab, server)
    texts = publish_until(publisher, lambda: len(received(tab).data) >= 10, what="ten events")
    server.signal(signal.SIGHUP)
    texts += publish_until(
        publisher, lambda: tab.run("return opened === 2"), first=len(texts), what="the new worker"
    )

    wait_received(tab, texts)


def test_end_of_life_loses_nothing(tab: Tab, start: Start, publisher: Publisher) -> None:
    """A stream that has reached its lifetime ends, and the page comes back without a loss."""
    # Lifetimes are looked at as often as heartbeats.
    open_page(tab, start(SSE_STREAM_LIFETIME_S=1, SSE_HEARTBEAT_S=0.4))
    texts = publish_until(publisher, lambda: tab.run("return opened === 3"), what="two renewals")

    wait_received(tab, texts)


def test_a_gap_is_told(tab: Tab, start: Start, publisher: Publisher) -> None:
    """A page that missed more than the history holds is told so before it gets anything newer."""
    texts = [str(number) for number in range(20)]
    server = start(SSE_HISTORY_LENGTH=5)
    open_page(tab, server)
    publish(publisher, ["before"])
    wait_received(tab, ["before"])
    server.kill()
    publish(publisher, texts)
    start(port=server.port, SSE_HISTORY_LENGTH=5)
    wait_opened(tab, 2)
    publish(publisher, ["after"])
    wait_until(lambda: "after" in received(tab).data, what="the event 'after'")

    got = received(tab)
    assert got.data == ["before", *texts[-5:], "after"]
    assert [json.loads(reset["data"]) for reset in got.resets] == [{"channels": ["news"]}]
    assert got.resets[0]["after"] == 1


def test_an_ended_channel_stops_the_browser(tab: Tab, start: Start, publisher: Publisher) -> None:
    """When a channel is closed its page gets `stream-end`, and the browser stays away."""
    server = start()
    open_page(tab, server)
    publish(publisher, ["last words"])
    publisher.end("news")
    wait_until(
        lambda: tab.run("return source.readyState === EventSource.CLOSED"),
        what="the browser to give up",
    )

    assert received(tab).data == ["last words"]
    assert [json.loads(end) for end in tab.run("return ends")] == [{"channels": ["news"]}]
    assert tab.run("return opened") == 1
