"""Gunicorn's own ways: several workers, a preloaded application, a watch over idle workers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from harness.streams import Reader
from harness.waiting import wait_until
from harness.wire import Wire
from live.site import GUNICORN, Site

Launch = Callable[..., Site]

TWO_WORKERS = ["--workers", "2"]


def readers_on_both(site: Site, channel: str, stack: ExitStack) -> dict[int, Reader]:
    """A stream on each of two workers: the kernel gives a connection to whoever takes it."""
    wait_until(lambda: len(site.server.worker_pids()) == 2, what="two workers")
    readers: dict[int, Reader] = {}

    def has_both() -> bool:
        reader = stack.enter_context(site.read(channel))
        readers.setdefault(int(reader.headers["x-worker"]), reader)
        return len(readers) == 2

    wait_until(has_both, what="a stream on each of two workers")
    return readers


def publish_through_both(site: Site, channel: str) -> list[str]:
    """Publish through views until both workers have done it; gives the data in order."""
    published: list[str] = []
    workers = set()

    def both_did() -> bool:
        published.append(f"event {len(published)}")
        workers.add(site.publish_through_worker(published[-1], channel))
        return len(workers) == 2

    wait_until(both_did, what="each of two workers to publish")
    return published


@pytest.mark.parametrize("options", [TWO_WORKERS, [*TWO_WORKERS, "--preload"]])
@pytest.mark.parametrize("kind", GUNICORN)
def test_two_workers(kind: str, options: list[str], launch: Launch, channel: str) -> None:
    """What is published through one of two workers reaches readers of both, preloaded or not."""
    site = launch(kind, options=options)
    with ExitStack() as stack:
        readers = readers_on_both(site, channel, stack)
        published = publish_through_both(site, channel)

        for reader in readers.values():
            assert [reader.next_event()["data"] for _ in published] == published


def test_not_to_myself(launch: Launch, channel: str) -> None:
    """A page's own events are left out by each worker, whoever published, also when it is back."""
    site = launch("gunicorn-sync", options=TWO_WORKERS)
    url = f"{site.stream_url(channel)}&client=me"
    with ExitStack() as stack:
        others = readers_on_both(site, channel, stack)
        mine = [stack.enter_context(Reader(url)) for _ in range(6)]
        site.publisher.publish("first", channel=channel)
        for data, exclude in (("1", "me"), ("2", "you"), ("3", "me"), ("4", None)):
            site.publisher.publish(data, channel=channel, exclude=exclude)

        for reader in others.values():
            assert [reader.next_event()["data"] for _ in range(5)] == ["first", *"1234"]
        for reader in mine:
            assert [reader.next_event()["data"] for _ in range(3)] == ["first", "2", "4"]
        last_id = others[min(others)].last_event_id

    site.publisher.publish("5", channel=channel, exclude="me")
    site.publisher.publish("6", channel=channel)
    for _ in range(4):
        with Reader(url, headers={"Last-Event-ID": last_id}) as reader:
            assert reader.next_event()["data"] == "6"


def test_publishing_before_the_fork(launch: Launch, channel: str) -> None:
    """A preloaded application that published while it was imported loses nothing to the fork."""
    options = [*TWO_WORKERS, "--preload"]
    site = launch("gunicorn-sync", options=options, PUBLISH_AT_IMPORT=channel)
    with ExitStack() as stack:
        readers = readers_on_both(site, channel, stack)
        published = publish_through_both(site, channel)

        for reader in readers.values():
            assert [reader.next_event()["data"] for _ in published] == published


@pytest.mark.parametrize("kind", GUNICORN)
def test_an_idle_stream_outlives_the_timeout(kind: str, launch: Launch, channel: str) -> None:
    """A stream without events goes on, in the same worker, past gunicorn's `--timeout`."""
    # Within it a worker has to start, too, also where the machine is busy.
    site = launch(kind, options=["--timeout", "5"], SSE_HEARTBEAT_S=0.5)
    worker = site.worker
    with site.read(channel) as reader:
        # The first one opens the stream.
        wait_until(lambda: reader.comments >= 16, within_s=30, what="7.5 s of heartbeats")
        site.publish_through_worker("hello", channel)

        assert reader.next_event()["data"] == "hello"
    assert site.worker == worker


def test_a_stream_keeps_no_hanging_worker(launch: Launch, channel: str) -> None:
    """A worker that hangs in a request is replaced after `--timeout` although a stream lives."""
    site = launch("gunicorn-sync", options=["--timeout", "5"], starved=True, SSE_HEARTBEAT_S=0.4)
    old = site.worker
    with site.read(channel) as reader, Wire(site.url) as wire:
        wait_until(lambda: reader.comments, what="an open stream")
        wire.request(f"{site.url}/hang", method="POST")
        reader.wait_end(within_s=30)
    site.wait_replaced(old)
    with site.read(channel) as reader:
        site.publish_through_worker("again", channel)

        assert reader.next_event()["data"] == "again"
