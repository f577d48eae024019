"""The `event-source-polyfill` build reads our streams in a Chromium that has no EventSource."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from flask_eventstream import Publisher
from harness.servers import Server
from harness.waiting import wait_until
from live.browser.chromium import Tab

Start = Callable[..., Server]

pytestmark = pytest.mark.usefixtures("foreign")


def open_page(tab: Tab, server: Server) -> None:
    tab.open(f"{server.url}/polyfill?channel=news")
    wait_until(lambda: tab.run("return opened === 1"), what="the polyfill's stream to be open")

    assert "[native code]" not in tab.run("return String(EventSource)")


def wait_received(tab: Tab, expected: list[str]) -> None:
    wait_until(
        lambda: expected[-1] in tab.run("return received.map(event => event.data)"),
        within_s=20,
        what=f"the event {expected[-1]!r}",
    )

    assert tab.run("return received.map(event => event.data)") == expected
    assert tab.run("return resets") == []


def test_reads(tab: Tab, start: Start, broker_url: str) -> None:
    """Types, ids, several lines, leading spaces and any Unicode arrive as they were published."""
    publisher = Publisher(broker_url)
    text = "first line\n  second: «ü» 🎉"
    open_page(tab, start())
    publisher.publish(text, type="note", channel="news")
    publisher.publish("plain", channel="news")
    wait_received(tab, [text, "plain"])

    first, second = tab.run("return received")
    assert [first["type"], second["type"]] == ["note", "message"]
    assert first["id"]
    assert second["id"] not in {"", first["id"]}


def test_resumes(tab: Tab, start: Start, broker_url: str) -> None:
    """After a cut it names its position in the query, and gets what it missed, in order, once."""
    publisher = Publisher(broker_url)
    missed = [f"meanwhile {number}" for number in range(20)]
    server = start()
    open_page(tab, server)
    publisher.publish("before", channel="news")
    wait_received(tab, ["before"])
    server.kill()
    for text in missed:
        publisher.publish(text, channel="news")
    again = start(port=server.port)

    wait_received(tab, ["before", *missed])
    wait_until(
        lambda: re.search(r"GET /stream\?\S*lastEventId=", again.log()),
        what="the position in the query",
    )


def test_lives_on_heartbeats(tab: Tab, start: Start, broker_url: str) -> None:
    """Heartbeats alone keep it from taking the stream for dead, and none of them is an event."""
    # The polyfill gives up on a stream that was silent for `heartbeatTimeout`, at least 1000 ms.
    reopen = """
        source.close();
        opened = 0;
        const impatient = new EventSource(source.url, { heartbeatTimeout: 1000 });
        impatient.onopen = source.onopen;
        impatient.onmessage = ({ data }) => received.push({ data });
        window.silence = new Promise((done) => setTimeout(done, 2500));"""
    open_page(tab, start(SSE_HEARTBEAT_S=0.2))
    tab.run(reopen)
    tab.run("return silence")

    assert tab.run("return opened") == 1
    Publisher(broker_url).publish("still here", channel="news")
    wait_received(tab, ["still here"])
