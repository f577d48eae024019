"""How many readers a channel has, over all workers of a real server."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from harness.streams import Reader
from harness.waiting import wait_until
from live.site import Site, json_of

Launch = Callable[..., Site]

THREE_WORKERS = ["--workers", "3"]


def readers(site: Site, channel: str) -> list[int]:
    return list(json_of(f"{site.url}/readers?channel={channel}"))


def wait_readers(site: Site, channel: str, expected: list[int], within_s: float = 10) -> None:
    wait_until(
        lambda: readers(site, channel) == expected, within_s=within_s, what=f"{expected} readers"
    )


def on_three_workers(site: Site, channel: str, stack: ExitStack) -> dict[int, int]:
    """Open streams of two subjects in turn until each worker has one; how many each has."""
    streams: dict[int, int] = {}
    wait_until(lambda: len(site.server.worker_pids()) == 3, what="three workers")

    def all_have() -> bool:
        subject = f"user{sum(streams.values()) % 2}"
        url = f"{site.stream_url(channel)}&subject={subject}"
        reader = stack.enter_context(Reader(url))
        worker = int(reader.headers["x-worker"])
        streams[worker] = streams.get(worker, 0) + 1
        return len(streams) == 3

    wait_until(all_have, what="a stream on each of three workers")
    return streams


@pytest.mark.parametrize("kind", ["gunicorn-gthread", "gunicorn-gevent"])
def test_three_workers(kind: str, launch: Launch, channel: str) -> None:
    """Streams and subjects of all workers are counted; those who leave are not, a second later."""
    site = launch(kind, app="counting:app", options=THREE_WORKERS)
    with ExitStack() as stack:
        streams = on_three_workers(site, channel, stack)

        wait_readers(site, channel, [sum(streams.values()), 2], within_s=5)
        assert readers(site, "another") == [0, 0]
    wait_readers(site, channel, [0, 0], within_s=5)


@pytest.mark.parametrize("killed_by", [signal.SIGTERM, signal.SIGKILL])
def test_a_worker_is_gone(killed_by: signal.Signals, launch: Launch, channel: str) -> None:
    """Streams of a worker that ended are not counted; of one that was killed after its lease."""
    lease_s = 3 if killed_by is signal.SIGKILL else 600
    site = launch(
        "gunicorn-gthread",
        app="counting:app",
        options=[*THREE_WORKERS, "--graceful-timeout", "1"],
        env={"LEASE_S": str(lease_s)},
    )
    with ExitStack() as stack:
        streams = on_three_workers(site, channel, stack)
        total = sum(streams.values())
        wait_readers(site, channel, [total, 2])
        worker, gone = min(streams.items(), key=lambda item: item[1])

        os.kill(worker, killed_by)

        wait_until(
            lambda: readers(site, channel)[0] == total - gone,
            within_s=20,
            what="the streams of the others",
        )
