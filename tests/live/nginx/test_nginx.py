"""nginx as Debian ships it, in front of a worker: nothing waits in a buffer, nothing is cut."""

from __future__ import annotations

from contextlib import ExitStack

from harness.streams import get
from live.claims import assert_noticed_within_a_second
from live.nginx.conftest import HEARTBEAT_S, READ_TIMEOUT_S
from live.nginx.fronts import Front

OPEN = "retry: 500\n:\n"


def test_the_stream_opens_at_once(front: Front, channel: str) -> None:
    """The head and the first line of a stream come at once, in the protocol that was asked for."""
    with front.read(channel) as curl:
        head, _, body = curl.wait_for(OPEN).replace("\r", "").partition("\n\n")

        assert head.startswith(front.variant.status_line)
        assert "text/event-stream" in head
        assert body.startswith(OPEN)


def test_each_event_comes_at_once(front: Front, channel: str) -> None:
    """Each of ten short events is with the client before the next one is published, unchanged."""
    with front.read(channel) as curl:
        curl.wait_for(OPEN)
        for number in range(10):
            front.publish(f"event {number}", channel)
            curl.wait_for(f"data: event {number}\n")
        lines = curl.received.replace("\r", "").partition("\n\n")[2].splitlines()

        # No mark of a chunk, and nothing compressed.
        assert {line.partition(":")[0] for line in lines} == {"retry", "", "data", "id"}


def test_idle_streams_outlive_the_timeout(front: Front, channel: str) -> None:
    """A stream without events outlives nginx's read timeout three times over, by heartbeats."""
    with front.read(channel) as curl:
        curl.wait_for(OPEN + ":\n" * round(3 * READ_TIMEOUT_S / HEARTBEAT_S), within_s=30)

        assert not curl.ended


def test_a_closed_client_is_noticed(front: Front, channel: str) -> None:
    """A client that leaves is noticed behind nginx within a second."""

    def leave() -> None:
        with front.read(channel) as curl:
            curl.wait_for(OPEN)
            front.wait_streams(1)

    assert_noticed_within_a_second(leave, front.wait_streams)


def test_requests_are_answered_beside_streams(front: Front, channel: str) -> None:
    """With ten streams through nginx on one worker, ordinary requests are answered."""
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(front.read(channel)).wait_for(OPEN)

        for _ in range(10):
            assert get(f"{front.plain_url}/ping").text.startswith("pong")
