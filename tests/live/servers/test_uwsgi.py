"""What only uWSGI has: its own way to kill slow requests, and to reload workers alone."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.waiting import wait_until
from live.returning import in_traffic
from live.servers.kinds import Kind
from live.site import Site

PAGES = 50
LONG_AGO_S = 1_000_000_000


def test_harakiri_spares_streams(launch: Callable[..., Site], channel: str) -> None:
    """A stream goes on, in the same worker, past `--harakiri`."""
    site = launch(Kind("uwsgi-http-socket", ("--harakiri", "2")), SSE_HEARTBEAT_S=0.5)
    worker = site.ping()
    with site.read(channel) as reader:
        # The first one opens the stream; nine heartbeats are at least three seconds.
        wait_until(lambda: reader.comments >= 10, what="nine heartbeats")
        site.publisher.publish("hello", channel=channel)

        assert reader.next_event()["data"] == "hello"
    assert site.ping() == worker
    assert "HARAKIRI" not in site.server.log()


@pytest.mark.parametrize("loading", [(), ("--lazy-apps",)], ids=["before-fork", "lazy-apps"])
def test_touching_reloads_workers(
    loading: tuple[str, ...], launch: Callable[..., Site], channel: str, tmp_path: Path
) -> None:
    """`--touch-workers-reload` says goodbye to streams, and their clients miss nothing."""
    touched = tmp_path / "reload"
    touched.touch()
    # uWSGI compares whole seconds: a file that was made just now could not be seen to change.
    os.utime(touched, (LONG_AGO_S, LONG_AGO_S))
    site = launch(Kind("uwsgi-http-socket", ("--touch-workers-reload", str(touched), *loading)))
    old = site.ping()
    with in_traffic(site, channel, PAGES) as crowd:
        touched.write_text("now", encoding="utf-8")
        site.wait_replaced(old)
        crowd.wait_returned(PAGES)

        # One in a thousand is what the opening said, too, and is not counted.
        assert len(crowd.goodbyes) >= PAGES * 0.9
