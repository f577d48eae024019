"""One stream and its feed, with a transport that only notes what it is told."""

from __future__ import annotations

import _socket
import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from flask_eventstream.errors import EndReason
from flask_eventstream.event import COMMENT
from flask_eventstream.hub.adoption import Adoption
from flask_eventstream.hub.feed import FEED_FAILED, Feed
from flask_eventstream.hub.stream import Stream
from harness.stage import Stage, perform

FRAME = b"data: x\n\n"
CHUNK = b"9\r\ndata: x\n\n\r\n"


class Transport:
    """Notes calls; never calls back by itself."""

    def __init__(self, *, write_eof_fails: Exception | None = None) -> None:
        self.calls: list[Any] = []
        self.reading = True
        self._write_eof_fails = write_eof_fails

    def write(self, data: bytes) -> None:
        self.calls.append(data)

    def write_eof(self) -> None:
        self.calls.append("eof")
        if self._write_eof_fails:
            raise self._write_eof_fails

    def close(self) -> None:
        self.calls.append("close")

    def abort(self) -> None:
        self.calls.append("abort")

    def set_write_buffer_limits(self, high: int) -> None:
        self.calls.append(high)

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Owner:
    def __init__(self) -> None:
        self.lost_reasons: list[EndReason | None] = []

    def lost(self, stream: Stream) -> None:
        self.lost_reasons.append(stream.reason)


@pytest.fixture
def owner() -> Owner:
    return Owner()


@pytest.fixture
def stream(owner: Owner) -> Iterator[Stream]:
    """A stream without a transport yet."""
    ours, theirs = socket.socketpair()
    client = _socket.socket(fileno=theirs.detach())
    yield Stream(owner, Adoption(client))
    client.close()
    ours.close()


def connected(stream: Stream, transport: Transport | None = None) -> Transport:
    transport = transport or Transport()
    stream.connection_made(transport)  # type: ignore[arg-type]
    return transport


def a_feed(stream: Stream) -> tuple[Feed, Transport]:
    feed = Feed(stream, now_s=0.0)
    transport = Transport()
    feed.connection_made(transport)  # type: ignore[arg-type]
    transport.calls.clear()
    stream.feed = feed
    return feed, transport


def test_it_knows_its_descriptor(stream: Stream) -> None:
    """A stream remembers the number of its client's descriptor, which outlives the socket."""
    assert stream.fd > 2


def test_what_is_written_goes_to_the_transport(stream: Stream) -> None:
    """A write goes to the transport as it is."""
    transport = connected(stream)
    stream.write(FRAME)

    assert transport.calls == [FRAME]


def test_nothing_is_written_before_there_is_a_connection(stream: Stream) -> None:
    """A write before the connection is made, or after it is lost, does nothing."""
    stream.write(FRAME)
    transport = connected(stream)
    stream.connection_lost(None)
    stream.write(FRAME)

    assert transport.calls == []


def test_the_head_leaves_with_the_first_write(stream: Stream) -> None:
    """The head is written together with the first bytes of the stream, and once."""
    transport = connected(stream)
    stream.head = b"HTTP/1.1 200 OK\r\n\r\n"
    stream.write(FRAME)
    stream.write(FRAME)

    assert transport.calls == [b"HTTP/1.1 200 OK\r\n\r\n" + FRAME, FRAME]


def test_the_head_leaves_even_if_nothing_follows(stream: Stream) -> None:
    """A stream that ends before its first byte still sends its head."""
    transport = connected(stream)
    stream.head = b"HTTP/1.1 403 Forbidden\r\n\r\n"
    stream.end(EndReason.NO_HEAD)

    assert transport.calls == [b"HTTP/1.1 403 Forbidden\r\n\r\n", "eof", "close"]


def test_a_chunked_stream_writes_chunks(stream: Stream) -> None:
    """Where the stream is framed in chunks each write is one, and the head is none."""
    transport = connected(stream)
    stream.head = b"head"
    stream.chunked = True
    stream.write(FRAME)
    stream.push(FRAME, CHUNK)

    assert transport.calls == [b"head" + CHUNK, CHUNK]


def test_a_chunked_stream_ends_with_the_last_chunk(stream: Stream) -> None:
    """The farewell is a chunk, and the last chunk says that nothing was cut off."""
    transport = connected(stream)
    stream.chunked = True
    stream.end(EndReason.AGE, b"retry: 1\n")

    assert transport.calls == [b"9\r\nretry: 1\n\r\n", b"0\r\n\r\n", "eof", "close"]


def test_a_cut_has_no_last_chunk(stream: Stream) -> None:
    """A chunked stream that is cut does not claim to be complete."""
    transport = connected(stream)
    stream.chunked = True
    stream.cut(EndReason.SLOW)

    assert transport.calls == ["abort"]


def test_an_end_is_said_then_made(stream: Stream) -> None:
    """Ending writes the farewell, ends the connection for every copy of it, then closes."""
    transport = connected(stream)
    stream.end(EndReason.AGE, b"retry: 1\n")

    assert transport.calls == [b"retry: 1\n", "eof", "close"]
    assert stream.reason is EndReason.AGE


@pytest.mark.parametrize("error", [OSError(107, "not connected"), RuntimeError("closing")])
def test_an_end_survives_a_connection_that_is_gone(stream: Stream, error: Exception) -> None:
    """A connection that can't be ended any more is closed all the same."""
    transport = connected(stream, Transport(write_eof_fails=error))
    stream.end(EndReason.AGE)

    assert transport.calls[-1] == "close"


def test_the_first_reason_stays(stream: Stream, owner: Owner) -> None:
    """What ends a stream first is why it ended; nothing is written afterwards."""
    transport = connected(stream)
    stream.end(EndReason.ENDED)
    stream.end(EndReason.AGE, b"late")
    stream.cut(EndReason.SLOW)
    stream.push(FRAME, CHUNK)
    stream.connection_lost(OSError())

    assert transport.calls == [b"", "eof", "close"]
    assert owner.lost_reasons == [EndReason.ENDED]


def test_a_cut_drops_what_waits(stream: Stream) -> None:
    """Cutting aborts the connection."""
    transport = connected(stream)
    stream.cut(EndReason.SLOW)

    assert transport.calls == ["abort"]


def test_a_push_to_a_paused_stream_cuts_it(stream: Stream) -> None:
    """An event for a client for whom too much waits cuts the stream as slow."""
    transport = connected(stream)
    stream.pause_writing()
    stream.push(FRAME, CHUNK)

    assert transport.calls == ["abort"]
    assert stream.reason is EndReason.SLOW


def test_a_heartbeat_for_a_paused_stream_is_left_out(stream: Stream) -> None:
    """A heartbeat for a client that has enough to read is not written, and cuts nobody."""
    transport = connected(stream)
    stream.pause_writing()
    stream.push(COMMENT, b"2\r\n:\n\r\n")

    assert transport.calls == []


def test_a_push_after_a_pause_is_written(stream: Stream) -> None:
    """A client that caught up gets events as before."""
    transport = connected(stream)
    stream.pause_writing()
    stream.resume_writing()
    stream.push(FRAME, CHUNK)

    assert transport.calls == [FRAME]


@pytest.mark.parametrize(
    ("error", "reason"), [(None, EndReason.LEFT), (ConnectionResetError(), EndReason.LOST)]
)
def test_a_connection_that_ends_by_itself(
    stream: Stream, owner: Owner, error: Exception | None, reason: EndReason
) -> None:
    """A connection that ends in order was left; one that breaks is lost."""
    connected(stream)
    stream.connection_lost(error)

    assert owner.lost_reasons == [reason]
    assert not stream.connected


def test_a_client_that_closes_its_side_left(stream: Stream) -> None:
    """End of file from the client means that it left, and lets the loop close the rest."""
    connected(stream)

    assert stream.eof_received() is False
    assert stream.reason is EndReason.LEFT


def test_junk_is_counted_over_all_pieces(stream: Stream) -> None:
    """64 KiB of junk in all are borne, one byte more is not."""
    transport = connected(stream)
    for _ in range(64):
        stream.data_received(b"x" * 1024)

    assert transport.calls == []

    stream.data_received(b"x")

    assert transport.calls == ["abort"]
    assert stream.reason is EndReason.CHATTY


def test_the_bound_is_the_transports(stream: Stream) -> None:
    """The bound of what may wait is given to the transport, where there is one."""
    stream.set_max_buffer(1)
    transport = connected(stream)
    stream.set_max_buffer(1000)

    assert transport.calls == [1000]


def test_abandoning_aborts(stream: Stream) -> None:
    """An abandoned stream's connection is aborted, also after its end was said."""
    stream.abandon()
    transport = connected(stream)
    stream.end(EndReason.SHUTDOWN)
    stream.abandon()

    assert transport.calls[-1] == "abort"


@pytest.mark.parametrize("wake", ["resume_writing", "connection_lost"])
def test_drained_waits_for_the_client(stream: Stream, wake: str) -> None:
    """`drained` returns when the client took enough, or is gone; at once where nothing waits."""
    connected(stream)

    async def scenario(_: Stage) -> None:
        await stream.drained()
        stream.pause_writing()
        waiting = asyncio.ensure_future(stream.drained())
        await asyncio.sleep(0)

        assert not waiting.done()

        stream.resume_writing() if wake == "resume_writing" else stream.connection_lost(None)
        await waiting

    perform(asyncio.new_event_loop, scenario)


def test_drained_does_not_wait_for_who_is_gone(stream: Stream) -> None:
    """`drained` returns at once where the stream has ended."""
    connected(stream)
    stream.pause_writing()
    stream.cut(EndReason.SLOW)

    async def scenario(_: Stage) -> None:
        await stream.drained()

    perform(asyncio.new_event_loop, scenario)


# ---- the feed


def test_a_beat_goes_to_the_stream(stream: Stream) -> None:
    """A heartbeat of a silent feed is written to its stream, and its time is noted."""
    transport = connected(stream)
    feed, _ = a_feed(stream)
    feed.beat(7.0)

    assert transport.calls == [COMMENT]
    assert feed.wrote_at_s == 7.0


def test_a_beat_waits_for_the_end_of_the_line(stream: Stream) -> None:
    """No heartbeat is written within a line."""
    transport = connected(stream)
    feed, _ = a_feed(stream)

    async def scenario(_: Stage) -> None:
        feed.data_received(b"data: a")
        feed.beat(1.0)
        feed.data_received(b"b\n")
        feed.beat(2.0)

    perform(asyncio.new_event_loop, scenario)

    assert transport.calls == [b"data: a", b"b\n", COMMENT]


def test_a_beat_leaves_out_who_has_enough_to_read(stream: Stream) -> None:
    """No heartbeat is written to a client for whom too much waits."""
    transport = connected(stream)
    feed, _ = a_feed(stream)
    stream.pause_writing()
    feed.beat(1.0)

    assert transport.calls == []


def test_a_paused_stream_pauses_its_feed(stream: Stream) -> None:
    """While the client is behind the feed is not read; afterwards it is. Repeating does no harm."""
    connected(stream)
    _, transport = a_feed(stream)
    stream.pause_writing()
    stream.pause_writing()

    assert not transport.reading

    stream.resume_writing()
    stream.resume_writing()

    assert transport.reading


@pytest.mark.parametrize(
    ("failed", "error", "reason"),
    [
        (False, None, EndReason.FINISHED),
        (True, None, EndReason.FAILED),
        (False, ConnectionResetError(), EndReason.FAILED),
    ],
)
def test_the_end_of_a_feed_ends_the_stream(
    stream: Stream,
    *,
    failed: bool,
    error: Exception | None,
    reason: EndReason,
) -> None:
    """A feed that ends ends its stream: finished, or failed where its source raised."""
    transport = connected(stream)
    feed, _ = a_feed(stream)

    async def bring() -> None:
        feed.data_received(FRAME + FEED_FAILED if failed else FRAME)

    asyncio.run(bring())
    feed.connection_lost(error)

    assert stream.reason is reason
    assert transport.calls[0] == FRAME


def test_the_end_of_a_stream_ends_its_feed(stream: Stream) -> None:
    """A stream that is gone aborts its feed, so the pump's next write fails."""
    connected(stream)
    _, transport = a_feed(stream)
    stream.connection_lost(None)

    assert transport.calls == ["abort"]


def test_an_ended_feed_is_left_alone(stream: Stream) -> None:
    """A feed that is gone is neither paused, resumed nor stopped."""
    connected(stream)
    feed, transport = a_feed(stream)
    feed.connection_lost(None)
    stream.pause_writing()
    stream.resume_writing()
    stream.connection_lost(None)

    assert transport.calls == []
