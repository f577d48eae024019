"""Events that flow all the time: two publishing processes, and readers who come back.

What must hold in the end, whatever happened to Redis meanwhile, is said in `Traffic.finish`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from harness.event_stream import Dispatched
from harness.streams import Reader
from harness.waiting import wait_until

__all__ = ["APPS", "BROWSER", "CHANNELS", "Traffic", "run_traffic"]

APPS = Path(__file__).parent / "apps"
CHANNELS = ("a", "b", "c")
PUBLISHERS = ("p", "q")
# What the publishers are given (apps/publishing.py), and what a busy machine adds to it.
PUBLISH_TIMEOUT_S = 2.0
SLACK_S = 1.0

# Browsers are told their position before the first event; others might take it for an event.
BROWSER = {"User-Agent": "Mozilla/5.0"}

LOOK_UP_S = 0.1
RESTLESS_AFTER = 40


class Number(NamedTuple):
    """An event of the traffic."""

    channel: str
    publisher: str
    number: int

    @classmethod
    def of(cls, data: str) -> Number:
        channel, publisher, number = data.split()
        return cls(channel, publisher, int(number))


@dataclass(frozen=True, slots=True)
class Reset:
    """A reader was told that something of these channels is gone."""

    channels: tuple[str, ...]


class Publishing:
    """One publishing process. Belongs to the test's thread."""

    def __init__(self, url: str, name: str) -> None:
        self.name = name
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  closed in `close`
        self._process = subprocess.Popen(
            [sys.executable, str(APPS / "publishing.py"), url, name],
            stdin=subprocess.PIPE,
            stdout=self._output,
        )

    def tries(self) -> list[dict[str, Any]]:
        """What it has written so far."""
        size = os.fstat(self._output.fileno()).st_size
        lines = os.pread(self._output.fileno(), size, 0).decode().split("\n")[:-1]
        return [json.loads(line) for line in lines]

    def accepted(self) -> list[Number]:
        """Events whose publish returned an id."""
        return [
            Number(one["channel"], self.name, one["number"]) for one in self.tries() if "id" in one
        ]

    def failures(self) -> list[dict[str, Any]]:
        return [one for one in self.tries() if "failed" in one]

    def stop(self) -> None:
        """Let it finish what it does."""
        self._process.communicate(timeout=30)
        assert self._process.returncode == 0, "a publishing process ended with an error"

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()
        self._output.close()


class Follower:
    """A reader on a thread of its own, who comes back with the last event ID it has."""

    def __init__(self, url: str, channels: Sequence[str], *, restless: bool) -> None:
        self.channels = tuple(channels)
        self.seen: list[Number | Reset] = []
        self.ids: list[str] = []
        self.opened = threading.Event()
        self._restless = restless
        self._url = f"{url}/stream?" + "&".join(f"channel={channel}" for channel in channels)
        self._last_id = ""
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name=f"follower {channels}")
        self._thread.start()

    def __repr__(self) -> str:
        manner = "restless" if self._restless else "patient"
        return f"<{manner} follower of {','.join(self.channels)}>"

    @property
    def numbers(self) -> list[Number]:
        return [one for one in tuple(self.seen) if isinstance(one, Number)]

    @property
    def resets(self) -> list[Reset]:
        return [one for one in tuple(self.seen) if isinstance(one, Reset)]

    def stop(self) -> None:
        self._stopped = True
        self._thread.join(30)

    def has(self, numbers: Sequence[Number]) -> bool:
        return set(numbers) <= set(self.seen)

    def _run(self) -> None:
        while not self._stopped:
            try:
                self._follow()
            except (OSError, AssertionError):
                continue

    def _follow(self) -> None:
        headers = {**BROWSER, **({"Last-Event-ID": self._last_id} if self._last_id else {})}
        with Reader(self._url, headers) as reader:
            # A second connection before this would have no position to come back to.
            wait_until(lambda: reader.comments, what="the stream's first byte")
            wait_until(lambda: reader.last_event_id or self._stopped, what="a position")
            # What has an id is taken, or comes after the position that was read before.
            position = reader.last_event_id
            taken = self._take(reader.take_events()) or self._at(position)
            self.opened.set()
            while not self._stopped and not (self._restless and taken >= RESTLESS_AFTER):
                try:
                    first = reader.next_event(within_s=LOOK_UP_S)
                except AssertionError:
                    if reader.ended:
                        return
                else:
                    taken += self._take([first, *reader.take_events()])

    def _at(self, position: str) -> int:
        self._last_id = position or self._last_id
        return 0

    def _take(self, events: Sequence[Dispatched]) -> int:
        for event in events:
            self._last_id = event["id"]
            if event["type"] == "stream-reset":
                self.seen.append(Reset(tuple(json.loads(event["data"])["channels"])))
            else:
                self.seen.append(Number.of(event["data"]))
                self.ids.append(event["id"])
        return len(events)


class Traffic:
    """Two publishing processes and six readers. Belongs to the test's thread."""

    def __init__(self, publishing: Sequence[Publishing], followers: Sequence[Follower]) -> None:
        self.publishing = publishing
        self.followers = followers

    def flow(self, count: int = 30, within_s: float = 20) -> None:
        """Wait until each process has published so many more events."""
        for one in self.publishing:
            goal = len(one.accepted()) + count
            wait_until(
                lambda one=one, goal=goal: len(one.accepted()) >= goal,
                within_s=within_s,
                what=f"{count} more events of publisher {one.name} (last: {one.tries()[-1:]})",
            )

    def failures(self) -> list[str]:
        """The texts of all failed tries so far."""
        return [str(failure["failed"]) for one in self.publishing for failure in one.failures()]

    def wait_failures(self, count: int = 2) -> None:
        """Wait until each publishing process had failures."""
        for one in self.publishing:
            goal = len(one.failures()) + count
            wait_until(lambda one=one, goal=goal: len(one.failures()) >= goal, what="a failure")

    def wait_read(self) -> None:
        """Wait until all readers have what is published now."""
        newest = [one.accepted()[-1] for one in self.publishing]
        for follower in self.followers:
            mine = [number for number in newest if number.channel in follower.channels]
            wait_until(
                lambda f=follower, mine=mine: f.has(mine), within_s=30, what=f"{mine} at {follower}"
            )

    def finish(self, *, resets: bool = False) -> None:
        """Stop, and check what must hold.

        Every event whose publish returned an id was shown to each reader of its channel, once, in
        the order of the log; with `resets`, or lies where a reset named the channel. Each publish
        that failed did so in time.
        """
        if resets:
            # What a reader is told of last may be all that was published before.
            self._wait_live()
        for one in self.publishing:
            one.stop()
        for follower in self.followers:
            self._wait_complete(follower)
        for follower in self.followers:
            follower.stop()
        self._check_times()
        for follower in self.followers:
            self._check_order(follower)
            for channel in follower.channels:
                for one in self.publishing:
                    self._check(follower, channel, one)
            if not resets:
                assert follower.resets == [], follower

    def _wait_live(self) -> None:
        """Wait until each reader has what each process published after this moment."""
        marks = {one.name: one.accepted()[-1].number for one in self.publishing}

        def is_live(follower: Follower) -> bool:
            later = {n.publisher for n in follower.numbers if n.number > marks[n.publisher]}
            return later == set(marks)

        for follower in self.followers:
            wait_until(lambda f=follower: is_live(f), within_s=30, what=f"{follower} to be live")

    def _wait_complete(self, follower: Follower) -> None:
        last = {(n.channel, n.publisher): n for one in self.publishing for n in one.accepted()}
        mine = [number for number in last.values() if number.channel in follower.channels]
        wait_until(
            lambda: follower.has(mine), within_s=30, what=f"the last events {mine} at {follower}"
        )

    def _check_times(self) -> None:
        for one in self.publishing:
            slow = [each for each in one.tries() if each["took_s"] > PUBLISH_TIMEOUT_S + SLACK_S]
            assert slow == []

    @staticmethod
    def _check_order(follower: Follower) -> None:
        places = [event_id.rpartition("-") for event_id in follower.ids]
        for (epoch, _, earlier), (later_epoch, _, later) in pairwise(places):
            assert epoch != later_epoch or int(earlier) < int(later), follower

    @staticmethod
    def _check(follower: Follower, channel: str, one: Publishing) -> None:
        """One publisher's events on one channel: all, once, in order, or where a reset is."""
        where = f"{follower}, publisher {one.name} on {channel}"
        parts: list[list[int]] = [[]]
        for seen in follower.seen:
            if isinstance(seen, Reset):
                if channel in seen.channels:
                    parts.append([])
            elif (seen.channel, seen.publisher) == (channel, one.name):
                parts[-1].append(seen.number)
        shown = [number for part in parts for number in part]
        assert shown == sorted(set(shown)), f"{where}: twice, or out of order"

        accepted = [each.number for each in one.accepted() if each.channel == channel]
        missing = set(accepted) - set(shown)
        for index, part in enumerate(parts):
            is_last = index == len(parts) - 1
            low = float("-inf") if index == 0 else min(part, default=float("inf"))
            high = float("inf") if is_last else max(part, default=float("-inf"))
            silent = sorted(number for number in missing if low < number < high)
            assert silent == [], f"{where}: missing without a reset"


@contextmanager
def run_traffic(hub_url: str, broker_url: str) -> Iterator[Traffic]:
    """Readers at a server, then publishers at Redis; returned when all of them are at work."""
    with ExitStack() as stack:
        followers = []
        for channels, restless in (
            *((channel, False) for channel in CHANNELS),
            (CHANNELS, False),
            (CHANNELS, True),
            ("a", True),
        ):
            followers.append(Follower(hub_url, tuple(channels), restless=restless))
            stack.callback(followers[-1].stop)
        for follower in followers:
            assert follower.opened.wait(20), f"{follower} got no stream"
        publishing = []
        for name in PUBLISHERS:
            publishing.append(Publishing(broker_url, name))
            stack.callback(publishing[-1].close)
        traffic = Traffic(publishing, followers)
        traffic.flow()
        yield traffic
