"""Processes that a view starts: none of them keeps a stream alive."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest

from harness.process import is_alive
from harness.servers import KINDS
from harness.streams import post
from harness.wire import Wire
from live.site import Site

Launch = Callable[..., Site]


@pytest.mark.parametrize("kind", KINDS)
def test_a_stream_ends_although_children_live(kind: str, launch: Launch, channel: str) -> None:
    """A stream that the worker ends is at its end, though a fork and a program live on."""
    site = launch(kind)
    url = site.stream_url(channel)
    with Wire(url) as wire:
        # Whose body ends with the connection, and with nothing else.
        wire.request(url, version="HTTP/1.0")
        wire.read_until(b":\n")
        children = [int(post(f"{site.url}/{start}").text) for start in ("fork", "spawn")]
        site.publisher.end(channel)
        wire.read_to_end()

        assert [is_alive(child) for child in children] == [True, True]
    for child in children:
        site.server.signal(signal.SIGKILL, child)
