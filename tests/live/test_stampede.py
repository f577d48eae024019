"""All clients of a worker come back to its successor, which answers ordinary requests meanwhile."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable

import pytest

from harness.streams import allow_descriptors
from live.returning import ReturningCrowd, in_traffic
from live.site import Site

Launch = Callable[..., Site]

# Twenty seconds where the machine does nothing else.
pytestmark = pytest.mark.timeout(300)

STREAMS = 2000

# An opening costs two or three milliseconds where the clients run on the same two cores.
RETRY_MS = 8000
LEAST_RETRY_MS = 100

# For machines several times slower, on which openings take as long as that.
ANSWERED_WITHIN_S = 10
ANSWERED_AT_LAST_WITHIN_S = 40


def ping_until_all_are_back(site: Site, crowd: ReturningCrowd, within_s: float) -> None:
    """Make ordinary requests until all have come back; each must be answered in time."""
    slowest_s = 0.0
    while crowd.returns < STREAMS or crowd.open < STREAMS:
        began = time.monotonic()
        site.ping(timeout_s=within_s)
        slowest_s = max(slowest_s, time.monotonic() - began)
    print(f"the slowest request while {STREAMS} streams came back: {slowest_s:.2f} s")


def test_coming_back_is_spread(launch: Launch, channel: str) -> None:
    """2,000 goodbyes spread their clients evenly, so requests are answered while they come back."""
    allow_descriptors(STREAMS)
    site = launch("gunicorn-sync", SSE_RETRY_MS=RETRY_MS)
    with in_traffic(site, channel, STREAMS, retry_ms=RETRY_MS) as crowd:
        site.server.signal(signal.SIGHUP)
        ping_until_all_are_back(site, crowd, ANSWERED_WITHIN_S)

    # One in thousands is what the opening said, too, and is not taken for a goodbye.
    assert len(crowd.goodbyes) > STREAMS * 0.99
    assert min(crowd.goodbyes) >= LEAST_RETRY_MS
    assert max(crowd.goodbyes) <= RETRY_MS + LEAST_RETRY_MS
    tenths = Counter((ms - LEAST_RETRY_MS) * 10 // (RETRY_MS + 1) for ms in crowd.goodbyes)
    # Each has 200, give or take 13 (one standard deviation).
    assert [count for count in tenths.values() if not 120 < count < 280] == []
    assert len(tenths) == 10


def test_all_at_once(launch: Launch, channel: str) -> None:
    """2,000 clients whose worker was killed come back at the same moment, and all are served."""
    allow_descriptors(STREAMS)
    site = launch("gunicorn-sync")
    with in_traffic(site, channel, STREAMS, at_once=STREAMS) as crowd:
        site.server.signal(signal.SIGKILL, site.worker)
        ping_until_all_are_back(site, crowd, ANSWERED_AT_LAST_WITHIN_S)
        assert crowd.goodbyes == []
