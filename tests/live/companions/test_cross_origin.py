"""Flask-CORS with a real browser: a page of one origin reads the stream of another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from harness.waiting import wait_until
from live.browser.chromium import Tab, chromium
from live.companions.ways import WAYS, run_way

READ = """
window.got = [];
new EventSource(arguments[0], {withCredentials: true}).onmessage = (e) => got.push(e.data);
"""


@pytest.fixture
def tab(tmp_path: Path) -> Iterator[Tab]:
    """A tab of a browser of this test's own."""
    with chromium(tmp_path / "chromium") as driver, closing(Tab(driver)) as tab:
        yield tab


def test_a_page_of_another_origin(tab: Tab, tmp_path: Path) -> None:
    """A browser reads a stream of another origin with its cookie, and resumes without asking."""
    way = WAYS["handed off, gunicorn sync"]
    with (
        run_way(way, tmp_path, "cross", SSE_STREAM_LIFETIME_S=3) as stream,
        run_way(way, tmp_path, "cross") as page,
    ):
        tab.open(f"{stream.url}/visit")
        tab.open(f"{page.url}/ping")
        tab.run(READ, f"{stream.url}/stream")
        stream.wait_streams(1)
        stream.publisher.publish("first")
        wait_until(lambda: tab.run("return got") == ["first"], what="the first event")
        # The stream ends by its age, and the browser comes back with the id of what it has.
        wait_until(lambda: stream.stats()["opened"] >= 2, what="the browser's return")
        stream.publisher.publish("second")

        wait_until(lambda: tab.run("return got") == ["first", "second"], what="the second event")
        assert "OPTIONS" not in stream.server.log()
