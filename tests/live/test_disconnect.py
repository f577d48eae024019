"""Readers are disconnected in every worker that shares a file."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from harness.streams import Reader
from harness.waiting import wait_until
from live.site import Site

Launch = Callable[..., Site]


@pytest.mark.parametrize("options", [["--workers", "3"], ["--workers", "3", "--preload"]])
def test_three_workers(launch: Launch, options: list[str]) -> None:
    """A disconnected subject's streams end on three workers within a second; others go on."""
    site = launch("gunicorn-sync", app="accounts:app", options=options)
    with ExitStack() as stack:
        readers: dict[tuple[str, str], Reader] = {}

        def has_all() -> bool:
            for subject in ("ann", "bob"):
                url = f"{site.stream_url('a')}&as={subject}"
                reader = stack.enter_context(Reader(url))
                readers.setdefault((subject, reader.headers["x-worker"]), reader)
            return len(readers) == 6

        wait_until(has_all, within_s=30, what="streams of two on each of three workers")
        for reader in readers.values():
            wait_until(lambda reader=reader: reader.comments, what="an open stream")

        site.publisher.disconnect(subject="ann")

        gone = [reader for (subject, _), reader in readers.items() if subject == "ann"]
        wait_until(lambda: all(r.ended for r in gone), within_s=2, what="the end of ann's streams")
        site.publisher.publish("still here", channel="a")
        for (subject, _), reader in readers.items():
            if subject == "bob":
                assert reader.next_event()["data"] == "still here"
