"""A stream that is asked for on a connection which still has an earlier answer to carry."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.waiting import wait_until
from harness.wire import Wire, request_line
from live.servers.kinds import Kind
from live.site import Site

Launch = Callable[..., Site]

#: More than a connection's buffers take.
LARGE_BYTES = 20_000_000


@pytest.mark.parametrize("size", [0, 10, 100_000, LARGE_BYTES])
def test_behind_another_answer(size: int, launch: Launch, channel: str) -> None:
    """All of an earlier answer comes first, then the stream's own head and what is published."""
    site = launch(Kind("waitress"), hands_off=False, SSE_HEARTBEAT_S=0.5)
    large = request_line(f"{site.url}/large?size={size}")
    stream = request_line(site.stream_url(channel))
    with Wire(site.url) as wire:
        wire.send(large, "Host: localhost", "", stream, "Host: localhost", "")
        # The stream's request is answered, or waits to be, before anything is read.
        site.ping()
        if size < LARGE_BYTES:
            site.wait_streams(1)
        received = wire.read_until(b":\n", within_s=30)
        wait_until(lambda: site.stats()["streams"] == 1, what="the stream")
        site.publish_through_worker("hello", channel)
        received = wire.read_until(b"data: hello")

    head, _, rest = received.partition(b"\r\n\r\n")
    body, stream_head = rest[:size], rest[size:]
    assert head.startswith(b"HTTP/1.1 200")
    assert body == b"x" * size
    assert stream_head.startswith(b"HTTP/1.1 200")
    assert b"text/event-stream" in stream_head.partition(b"\r\n\r\n")[0]
