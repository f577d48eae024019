"""Pages that come back with their last event ID, as an EventSource does, and events meanwhile."""

from __future__ import annotations

import heapq
import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.event_stream import EventStreamParser
from harness.http_response import HttpResponse
from harness.streams import OPENING_AT_ONCE, Crowd, _Address, _Member
from harness.waiting import wait_until
from live.site import APPS, Site

__all__ = ["ReturningCrowd", "in_traffic", "publishing"]

# Where nobody listens, or no word came of when to come back.
PAUSE_MS = 200

# As many deliveries a second as a crowd that is written in Python keeps up with on a slow machine.
DELIVERIES_PER_S = 4000
LEAST_PAUSE_S = 0.02


@contextmanager
def publishing(site: Site, channel: str, pause_s: float) -> Iterator[Callable[[], str]]:
    """Let another process publish numbers all the time; gives what stops it and says the last."""
    program = str(APPS / "publishing.py")
    command = [sys.executable, program, site.broker_url, channel, str(pause_s)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def stop() -> str:
            return process.communicate("stop\n", timeout=20)[0].strip()

        try:
            yield stop
        finally:
            process.kill()


@contextmanager
def in_traffic(
    site: Site, channel: str, count: int, *, retry_ms: int = 500, at_once: int = OPENING_AT_ONCE
) -> Iterator[ReturningCrowd]:
    """Pages on a site, for which another process publishes all the time.

    `retry_ms` is the site's SSE_RETRY_MS. When the block is left without an error, each page has
    to have every event once, in order.
    """
    url = site.stream_url(channel)
    with ReturningCrowd(url, count, retry_ms=retry_ms, at_once=at_once) as crowd:
        crowd.wait_positions()
        pause_s = max(count / DELIVERIES_PER_S, LEAST_PAUSE_S)
        with publishing(site, channel, pause_s) as stop:
            crowd.wait_for("2")
            yield crowd
            last = stop()
        crowd.wait_for(last)
        crowd.assert_each_has([str(number) for number in range(int(last) + 1)])


class ReturningCrowd(Crowd):
    """Hundreds of pages that come back wherever they are cut.

    Each waits for as long as the last `retry:` of its stream said, and names its last event ID.

    Attributes:
        goodbyes: the `retry:` of each stream that ended with another one than it opened with.
        returns: how often streams were opened again.
    """

    def __init__(
        self, url: str, count: int, *, retry_ms: int, at_once: int = OPENING_AT_ONCE
    ) -> None:
        self.goodbyes: list[int] = []
        self.returns = 0
        self._retry_ms = retry_ms
        self._last_ids: dict[_Member, str] = {}
        self._due: list[tuple[float, int, _Member]] = []
        self._tickets = itertools.count()
        # An empty lastEventId asks for the position at once, so that a client that was cut off
        # before its first event misses nothing either. A header wins over it.
        self._page = _Address.of(f"{url}&lastEventId=")
        super().__init__(f"{url}&lastEventId=", count, at_once=at_once)

    @property
    def open(self) -> int:  # type: ignore[override]  # nobody opens a crowd through a crowd
        """Streams that are open now."""
        with self._changed:
            return self._opened - self._ended

    def wait_positions(self, within_s: float = 60) -> None:
        """Wait until every stream is open and knows where it is."""
        wait_until(
            lambda: all(member.parser.last_event_id for member in self._members),
            within_s=within_s,
            what="the position of each stream",
        )

    def wait_returned(self, count: int, within_s: float = 60) -> None:
        """Wait until streams were opened again so often, and all are open."""
        wait_until(
            lambda: self.returns >= count and self.open == len(self._members),
            within_s=within_s,
            what=f"{count} returns of {len(self._members)} streams",
        )

    def wait_for(self, last: str, within_s: float = 60) -> None:
        """Wait until every page has had an event with this data, in whatever order."""
        wait_until(
            lambda: all(last in member.data for member in self._members),
            within_s=within_s,
            what=f"event {last!r} on each page",
        )

    def assert_each_has(self, expected: list[str]) -> None:
        """Fail where a page missed an event, had one twice, or had them in another order."""
        wrong = [i for i, member in enumerate(self._members) if member.data != expected]
        shown = self._members[wrong[0]].data if wrong else []
        assert wrong == [], f"{len(wrong)} pages, such as {wrong[0]}: {shown}"

    # From here on: the crowd's own thread.

    def _patience_s(self) -> float | None:
        return max(0.0, self._due[0][0] - time.monotonic()) if self._due else None

    def _open_more(self) -> None:
        while self._due and self._due[0][0] <= time.monotonic():
            self._waiting.append(heapq.heappop(self._due)[2])
        super()._open_more()

    def _lose(self, member: _Member, *, why: str) -> None:
        was_open, told_ms = member.opened, member.parser.retry
        super()._lose(member, why=why)
        last_id = member.parser.last_event_id or self._last_ids.get(member, "")
        self._last_ids[member] = last_id
        if was_open and told_ms not in (None, self._retry_ms):
            self.goodbyes.append(told_ms or 0)
        named = {"last-event-id": last_id} if last_id else {}
        member.request = self._page.request({"accept": "text/event-stream", **named})
        member.response, member.parser = HttpResponse(), EventStreamParser()
        member.opened = member.ended = False
        wait_ms = PAUSE_MS if told_ms is None else told_ms
        due = (time.monotonic() + wait_ms / 1000, next(self._tickets), member)
        heapq.heappush(self._due, due)
        self.returns += was_open
