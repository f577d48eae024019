"""Chromium reads streams of another origin: with a cookie, with a header, with a link."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple
from urllib.request import urlopen

import pytest

from flask_eventstream import Publisher
from harness.servers import Server
from harness.waiting import wait_until
from live.browser.chromium import Tab
from live.browser.conftest import APPS

#: An EventSource of the address, and what it got.
READ = """
window.got = [];
window.source = new EventSource(arguments[0], {withCredentials: Boolean(arguments[1])});
source.onmessage = (event) => got.push(event.data);
source.addEventListener("stream-expired", (event) => got.push("expired " + event.data));
"""

#: The same by fetch, with a header that makes the browser ask first.
FETCH = """
window.got = [];
window.failed = null;
(async () => {
  const answer = await fetch(arguments[0], {headers: {Authorization: arguments[1]}});
  got.push(answer.status);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const {value, done} = await reader.read();
    if (done) return;
    got.push(...[...value.matchAll(/^data: (.*)$/gm)].map((match) => match[1]));
  }
})().catch((error) => { failed = String(error); });
"""

OPEN, CLOSED = 1, 2


class Two(NamedTuple):
    page: str
    """The address of the pages."""
    stream: str
    """The address of the streams; it allows the origin of the pages."""
    publisher: Publisher


@pytest.fixture
def two(serve: Callable[..., Server], broker_url: str) -> Two:
    """Two gunicorns at two ports, which are two origins."""

    def start(**settings: object) -> str:
        given = {"SSE_BROKER_URL": broker_url, "SECRET_KEY": "key", "SSE_RETRY_MS": 200, **settings}
        env = {f"FLASK_{key}": str(value) for key, value in given.items()}
        return serve("gunicorn-sync", "origins:app", cwd=APPS, env=env).url

    page = start()
    return Two(page, start(SSE_CORS_ORIGINS=page), Publisher(broker_url))


def wait_state(tab: Tab, state: int) -> None:
    wait_until(
        lambda: tab.run("return source.readyState") == state, within_s=20, what=f"state {state}"
    )


def wait_got(tab: Tab, *expected: object) -> None:
    wait_until(
        lambda: tab.run("return got") == list(expected),
        within_s=20,
        what=f"the page to get {expected}",
    )


def test_with_a_cookie(tab: Tab, two: Two) -> None:
    """An EventSource with credentials is let in by its cookie, and one without is not."""
    tab.open(f"{two.page}/login")
    tab.run(READ, f"{two.stream}/stream?channel=cookie", 1)
    wait_state(tab, OPEN)
    two.publisher.publish("by cookie", channel="cookie")
    wait_got(tab, "by cookie")

    tab.run("source.close()")
    tab.run(READ, f"{two.stream}/stream?channel=cookie", 0)
    wait_state(tab, CLOSED)


def test_with_a_header(tab: Tab, two: Two) -> None:
    """A program with `Authorization` may ask, reads, and sees the status of a refusal too."""
    tab.open(f"{two.page}/page")
    tab.run(FETCH, f"{two.stream}/stream?channel=token", "Bearer a-token")
    wait_got(tab, 200)
    two.publisher.publish("by header", channel="token")
    wait_got(tab, 200, "by header")

    tab.run(FETCH, f"{two.stream}/stream?channel=token", "Bearer forged")
    wait_until(lambda: tab.run("return got")[:1] == [403], within_s=20, what="the refusal")


def test_an_origin_that_is_not_named(tab: Tab, two: Two) -> None:
    """A page at another name of the same machine gets nothing, whatever it could show."""
    tab.open(f"{two.page.replace('127.0.0.1', 'localhost')}/page")
    tab.run(FETCH, f"{two.stream}/stream?channel=token", "Bearer a-token")
    wait_until(lambda: tab.run("return failed"), within_s=20, what="the browser's refusal")

    assert tab.run("return got") == []


def test_with_a_link_until_it_expires(tab: Tab, two: Two) -> None:
    """A link needs no cookie and loses nothing; when it expires the page is told, and stops."""
    with urlopen(f"{two.stream}/link/6") as answer:  # noqa: S310  of a server of this test
        link = answer.read().decode()
    two.publisher.publish("before it was opened", channel="linked")
    tab.open(f"{two.page}/page")
    tab.run(READ, link, 0)
    wait_got(tab, "before it was opened")
    two.publisher.publish("live", channel="linked")
    wait_got(tab, "before it was opened", "live")

    wait_got(tab, "before it was opened", "live", 'expired {"channels": ["linked"]}')
    wait_state(tab, CLOSED)
