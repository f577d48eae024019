"""A stream's birth: its connection, its head, its preamble, and what it missed. Then it is live.

Belongs to the hub's loop. Everything here may end early, because the client may leave at any time.
"""

from __future__ import annotations

import _socket
import asyncio
import logging
from collections.abc import Callable, Sequence

from flask_eventstream.config import Config
from flask_eventstream.errors import EndReason
from flask_eventstream.event import COMMENT, encode_padding, encode_retry
from flask_eventstream.framing import rewrite_head, says_http_1_1, status_of
from flask_eventstream.hub.adoption import Adoption
from flask_eventstream.hub.bring_live import BringLive
from flask_eventstream.hub.catchup import CatchUp
from flask_eventstream.hub.connecting import connect, connect_feed, give_up, identity_of
from flask_eventstream.hub.feed import Feed
from flask_eventstream.hub.head_reader import HeadReader
from flask_eventstream.hub.observer import Observer
from flask_eventstream.hub.request import StreamRequest
from flask_eventstream.hub.stream import Stream
from flask_eventstream.log.entries import Entry, Replay

__all__ = ["Joining", "Opening"]

_LOGGER = logging.getLogger("flask_eventstream")
_HTTP_OK = 200

#: What may wait for a client that is more than a page behind before it gets the next page: of a
#: reader who takes nothing a process holds one page, not two.
_BEHIND_BYTES = 64 * 1024

#: Puts a stream among the live ones of its channels; with its last page.
Joining = Callable[[Stream, CatchUp], object]


class Opening:
    """Opens the streams of one hub."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: Config,
        *,
        bring_live: BringLive,
        join: Joining,
        observer: Observer,
    ) -> None:
        self._loop = loop
        self._config = config
        self._bring_live = bring_live
        self._join = join
        self._observer = observer

    async def open(self, stream: Stream, adoption: Adoption, *, refusal: bytes) -> None:
        """Open one.

        Args:
            stream: The stream, not connected yet.
            adoption: Its connection, and what its reader asked for.
            refusal: What a reader gets who is sent away; empty for all others.
        """
        identity = identity_of(adoption.client)
        # First of all: whatever becomes of the stream, the server's response is read to its end.
        pair = adoption.head_pair
        head_reader = None if pair is None else HeadReader(self._loop, pair)
        try:
            await connect(self._loop, stream, adoption.client)
            if stream.reason is not None:  # cut while it was connected
                stream.abandon()
                return
            stream.set_max_buffer(self._config.max_buffer_bytes)
            if head_reader is not None:
                _frame(stream, await head_reader.head, may_chunk=adoption.may_chunk)
            if refusal:
                stream.end(EndReason.REFUSED, refusal)
            elif stream.ending is not None:
                stream.end(*stream.ending)
            if stream.reason is None:
                await self._begin(stream, adoption)
        except asyncio.CancelledError:
            stream.cut(EndReason.LEFT)
        except Exception:
            _LOGGER.exception("A stream could not be opened")
            stream.cut(EndReason.FAILED)
        finally:
            stream.opening = None
            if adoption.feed is not None and stream.feed is None:
                adoption.feed.close()  # or its pump would wait for ever
            if stream.transportless:
                give_up(self._loop, adoption.client, identity)
                stream.connection_lost(None)

    async def _begin(self, stream: Stream, adoption: Adoption) -> None:
        request = adoption.request
        padding = encode_padding(request.padding_bytes)
        preamble = padding + encode_retry(self._config.retry_ms) + COMMENT
        if adoption.feed is not None:
            await self._feed(stream, adoption.feed, preamble)
        else:
            newcomer = _Newcomer(
                stream,
                request,
                preamble,
                self._join,
                self._observer,
                max_buffer_bytes=self._config.max_buffer_bytes,
            )
            await self._bring_live.bring(newcomer, after=request.after, standing=request.standing)

    async def _feed(self, stream: Stream, feed: _socket.socket, preamble: bytes) -> None:
        stream.write(preamble)
        stream.opened = True
        stream.feed = protocol = Feed(stream, now_s=self._loop.time())
        await connect_feed(self._loop, protocol, feed)


class _Newcomer:
    """A stream that is not live yet, for bring_live.py."""

    __slots__ = ("_catch_up", "_join", "_max_buffer_bytes", "_observer", "_stream", "channels")

    def __init__(
        self,
        stream: Stream,
        request: StreamRequest,
        preamble: bytes,
        join: Joining,
        observer: Observer,
        *,
        max_buffer_bytes: int,
    ) -> None:
        self.channels = request.channels
        self._max_buffer_bytes = max_buffer_bytes
        self._stream = stream
        self._join = join
        self._observer = observer
        self._catch_up = CatchUp(
            request.channels,
            request.after,
            preamble=preamble,
            tells_position=request.tells_position,
            client_id=request.reader.client_id,
        )

    def kept_waiting(self) -> None:
        """The head leaves at least, so that the page hears that it is connected."""
        self._write(self._catch_up.preamble())

    def give(self, page: Replay) -> None:
        """Write a page."""
        if page.gone:
            self._observer.reset(page.gone, 1)
        if page.more:
            self._stream.set_max_buffer(min(_BEHIND_BYTES, self._max_buffer_bytes))
        self._write(self._catch_up.page(page))

    async def ready(self) -> bool:
        """Wait until little enough waits for the client."""
        await self._stream.drained()
        return self._stream.reason is None

    def go_live(self, held: Sequence[Entry]) -> None:
        """Write what was held, and join the others."""
        self._stream.set_max_buffer(self._max_buffer_bytes)
        if held:
            self._stream.write(self._catch_up.release(held))
        self._join(self._stream, self._catch_up)

    def _write(self, data: bytes) -> None:
        if self._stream.ending is not None:
            self._stream.end(*self._stream.ending)
        self._stream.write(data)  # nothing, where it is ended
        self._stream.opened = True


def _frame(stream: Stream, head: bytes, *, may_chunk: bool) -> None:
    """Give the stream the head that the server wrote, and the framing that goes with it."""
    if status_of(head) == _HTTP_OK:
        stream.chunked = may_chunk and says_http_1_1(head)
        stream.head = rewrite_head(head, chunked=stream.chunked)
    else:
        # The server wrote none, or middleware made another answer of it; its body is lost.
        stream.head = rewrite_head(head) if head else b""
        stream.end(EndReason.NO_HEAD)
