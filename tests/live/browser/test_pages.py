"""A site of several pages, each of which has a stream, in real Chromium over HTTP/1.1."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.servers import Server
from harness.streams import post
from harness.waiting import wait_until
from live.browser.chromium import Tab

APPS = Path(__file__).parent / "apps"

#: Twice as many pages as a browser opens connections to one host.
PAGES = 12


@pytest.fixture
def book(serve: Callable[..., Server], broker_url: str) -> Server:
    env = {"FLASK_SSE_BROKER_URL": broker_url}
    return serve("gunicorn-sync", "book:app", cwd=APPS, env=env)


def greet(server: Server, text: str) -> None:
    post(f"{server.url}/hello", text.encode())


def wait_open(tab: Tab) -> None:
    wait_until(lambda: tab.run("return source.readyState") == 1, what="an open stream")


def wait_shown(tab: Tab, *texts: str) -> None:
    wait_until(lambda: tab.run("return shown") == list(texts), what=f"{texts} in the page")


def test_a_walk_through_many_pages(book: Server, tab: Tab) -> None:
    """Twelve pages clicked through answer at once, though a browser keeps those that were left."""
    tab.open(f"{book.url}/1")
    took_s = []
    for number in range(2, PAGES + 1):
        wait_open(tab)
        began_s = time.monotonic()
        tab.click("#next")
        tab.wait_text("h1", str(number))
        took_s.append(time.monotonic() - began_s)
    greet(book, "the last page lives")
    wait_shown(tab, "the last page lives")

    assert max(took_s) < 5, took_s


def test_going_back(book: Server, tab: Tab) -> None:
    """A page that the browser kept goes on with what it missed, each event once."""
    tab.open(f"{book.url}/1")
    wait_open(tab)
    greet(book, "before")
    wait_shown(tab, "before")
    tab.click("#next")
    tab.wait_text("h1", "2")
    wait_open(tab)
    greet(book, "meanwhile")
    wait_shown(tab, "meanwhile")
    tab.driver.back()
    tab.wait_text("h1", "1")
    wait_until(lambda: tab.run("return document.title") == "Page 1 again", what="the kept page")
    wait_shown(tab, "before", "meanwhile")
    greet(book, "after")
    wait_shown(tab, "before", "meanwhile", "after")
