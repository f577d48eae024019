"""Workers that end in mid-traffic, on every server: what their streams are told, and after it."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.ports import free_port
from harness.waiting import wait_until
from live.returning import ReturningCrowd, in_traffic
from live.servers.lifecycle import LIVES
from live.servers.matrix import LIFECYCLE, table

PAGES = 20
COLUMNS = ("SIGHUP", "enough requests", "SIGKILL", "SIGTERM")


def told(crowd: ReturningCrowd, goodbyes_before: int) -> str:
    goodbyes = len(crowd.goodbyes) - goodbyes_before
    if not goodbyes:
        return "the end"
    # One in a thousand goodbyes says what the opening said, too, and is not counted.
    return "goodbye" if goodbyes >= PAGES * 0.9 else f"{goodbyes} of {PAGES} goodbyes"


@pytest.mark.parametrize("name", LIVES)
def test_all_that_can_happen(name: str, channel: str, tmp_path: Path) -> None:
    """Whatever ends a worker, each page comes back, misses nothing, and was told what we say."""
    life = LIVES[name]
    seen = dict.fromkeys(COLUMNS, "–")
    with ExitStack() as sites:
        site = sites.enter_context(life.start(tmp_path, free_port()))
        with in_traffic(site, channel, PAGES) as crowd:
            for number, (event, end) in enumerate(life.ends.items(), start=1):
                goodbyes = len(crowd.goodbyes)
                end(site)
                if event in life.alone:
                    site.server.kill()
                    site = sites.enter_context(life.start(tmp_path, site.server.port))
                wait_until(site.answering, within_s=20, what="a new worker")
                crowd.wait_returned(number * PAGES)
                seen[event] = told(crowd, goodbyes)
                print(name, event, seen[event])

    assert seen == dict(zip(COLUMNS, table(LIFECYCLE)[name], strict=True))
