"""Streams through the proxies that Debian has, beside nginx, as the docs configure them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from harness.ports import accepts, free_port
from harness.streams import Reader, post
from harness.waiting import wait_until
from live.proxies.run import PROXIES, run_proxy
from live.servers.deployed import running
from live.servers.pages import assert_pages_survive, be_away

#: What an event may take on its way. HAProxy without its option holds one back for 0.2 s.
AT_ONCE_S = 0.15
EVENTS = 10

# lighttpd has no way to answer 200 for a server that is away: its page says to use a socket unit.
ANSWERING = [name for name in PROXIES if name != "lighttpd"]


def hello(behind: int) -> list[str]:
    return ["gunicorn", "--workers", "2", "--bind", f"127.0.0.1:{behind}", "hello:app"]


@pytest.mark.parametrize("name", PROXIES)
def test_events_come_at_once(name: str, folder: Path) -> None:
    """The first byte and each short event come through the proxy at once."""
    port, behind = free_port(), free_port()
    url = f"http://127.0.0.1:{port}"
    with (
        running(hello(behind), folder, lambda: accepts(behind)),
        run_proxy(name, port=port, behind=behind, folder=folder),
        Reader(f"{url}/stream", timeout_s=30) as reader,
    ):
        wait_until(lambda: reader.comments, what="the first byte")
        took_s = []
        for _ in range(EVENTS):
            post(f"http://127.0.0.1:{behind}/hello")
            began_s = time.monotonic()
            assert reader.next_event()["data"] == '{"message": "Hello!"}'
            took_s.append(time.monotonic() - began_s)

    # The middle one: a busy machine may hold one of them up, and a buffer all.
    assert sorted(took_s)[EVENTS // 2] < AT_ONCE_S, took_s


@pytest.mark.parametrize("name", ANSWERING)
def test_pages_survive_a_restart(name: str, folder: Path) -> None:
    """With the app away for four seconds behind the proxy of the docs, no page gives up."""
    port, behind = free_port(), free_port()
    with run_proxy(name, port=port, behind=behind, folder=folder):
        assert_pages_survive(
            f"http://127.0.0.1:{port}/stream",
            lambda: running(hello(behind), folder, lambda: accepts(behind)),
            folder,
            away=be_away,
        )
