"""Clients that leave: noticed at once, and nothing of them stays behind in the worker."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest

from harness.process import descriptors, threads
from harness.streams import Reader
from harness.waiting import wait_until
from harness.wire import Wire
from live.claims import (
    assert_breaking_off_is_noticed,
    assert_leaving_is_noticed,
    come_and_go,
)
from live.site import Site

ROUNDS = 200
FEWER_ROUNDS = 50


def come_and_break_off(url: str) -> None:
    """Leave by RST as soon as the head is there."""
    with closing(Wire(url)) as wire:
        wire.request(url)
        wire.read_until(b"\r\n\r\n")
        wire.reset()


def do_not_wait(url: str) -> None:
    """Leave by RST right after the request, before any answer."""
    with closing(Wire(url)) as wire:
        wire.request(url)
        wire.reset()


def read_six_and_go(url: str) -> None:
    with Reader(url) as reader:
        assert [reader.next_event()["data"] for _ in range(6)] == list("123456")


def test_a_leaving_client_is_noticed(site: Site, channel: str) -> None:
    """A client that leaves is noticed within a second although nothing is sent to it."""
    assert_leaving_is_noticed(site, channel)


def test_a_client_that_breaks_off_is_noticed(site: Site, channel: str) -> None:
    """A client whose connection is reset is noticed within a second too."""
    assert_breaking_off_is_noticed(site, channel)


@pytest.mark.parametrize(
    ("leave", "path", "rounds"),
    [
        (come_and_go, "/stream", ROUNDS),
        (come_and_break_off, "/stream", FEWER_ROUNDS),
        (do_not_wait, "/stream", FEWER_ROUNDS),
        (read_six_and_go, "/numbers", 10),
        (come_and_break_off, "/numbers", FEWER_ROUNDS),
    ],
    ids=["leave", "reset", "reset-at-once", "leave-response", "reset-response"],
)
def test_nothing_is_left_over(
    site: Site, channel: str, leave: Callable[[str], None], path: str, rounds: int
) -> None:
    """After many clients came and left, the worker has the descriptors and threads as before."""
    # A stream that stays keeps the hub and its reading side at work, before and after.
    with site.read(channel) as stays:
        leave(site.url + path)
        site.wait_streams(1)
        pid = site.worker
        before = wait_until_steady(pid)
        for _ in range(rounds):
            leave(site.url + path)
        site.wait_streams(1)

        wait_until(
            lambda: all(now <= then for now, then in zip(holdings(pid), before, strict=True)),
            what=f"no more descriptors and threads than {before}",
        )
        assert not stays.ended


def holdings(pid: int) -> tuple[int, int]:
    return descriptors(pid), threads(pid)


def wait_until_steady(pid: int) -> tuple[int, int]:
    """Wait until what the first round needed is given back, and give what is held then."""
    seen: list[tuple[int, int]] = []

    def is_steady() -> bool:
        seen.append(holdings(pid))
        return len(seen) > 20 and len(set(seen[-20:])) == 1

    wait_until(is_steady, what=f"steady descriptors and threads of {pid}")
    return seen[-1]
