"""What a reader who is not live yet gets, page by page, as bytes.

Rules of this room: no loop, no socket. It only says what to write; splice.py says when.
"""

from __future__ import annotations

from collections.abc import Sequence

from flask_eventstream.event import RESET, STREAM_END, encode_channels_event, encode_id
from flask_eventstream.hub.cursor import Cursor
from flask_eventstream.log.entries import Entry, Kind, Replay

__all__ = ["CatchUp"]

#: Looked up once: as an attribute of its enumeration each costs 40 ns per entry.
_END = Kind.END
_EVENT = Kind.EVENT


class CatchUp:
    """One reader's pages.

    Args:
        channels: What it reads.
        after: The last event ID that it came with.
        preamble: What leaves before the first page.
        tells_position: Whether it understands a block that only sets the last event ID.
        client_id: What its page calls itself: it is given no entry that excludes that.
    """

    __slots__ = (
        "_client_id",
        "_position",
        "_preamble",
        "_reset",
        "_tells_position",
        "_told",
        "cursor",
        "ended",
    )

    def __init__(
        self,
        channels: Sequence[str],
        after: str | None,
        *,
        preamble: bytes,
        tells_position: bool,
        client_id: str | None = None,
    ) -> None:
        self._preamble = preamble
        self._tells_position = tells_position
        self._client_id = client_id
        self._position = after
        # A reader who was here before was told of every end that lies behind its position.
        self._told: set[str] = set(() if after is None else channels)
        # Channels that were reset and gave nothing since: another reset would say nothing new.
        self._reset: set[str] = set()
        self.ended: set[str] = set()
        """Channels that are ended, as far as the reader knows."""
        self.cursor = Cursor()
        """Where the reader stands."""

    def preamble(self) -> bytes:
        """The bytes before the first page; nothing where they left already."""
        preamble, self._preamble = self._preamble, b""
        return preamble

    def page(self, replay: Replay) -> bytes:
        """The bytes of a page: what is gone, the entries, ends that it was never told of."""
        frames = [self.preamble()]
        gone = replay.gone - self._reset
        if gone:
            frames.append(encode_channels_event(RESET, gone, replay.start))
            self._told -= gone
            self._reset |= gone
            self._position = replay.start
        frames += self._frames(replay.entries)
        self.cursor = Cursor(replay.places)
        if not replay.more:
            self.ended = set(replay.ended)
            untold = self.ended - self._told
            if untold:
                frames.append(encode_channels_event(STREAM_END, untold, replay.position))
                self._told |= untold
                self._reset -= untold
                self._position = replay.position
            if self._tells_position and self._position != replay.position:
                # A page that is cut off before its first event must know where it was.
                frames.append(encode_id(replay.position))
                self._position = replay.position
        return b"".join(frames)

    def release(self, held: Sequence[Entry]) -> bytes:
        """The bytes of the live entries that were held meanwhile."""
        for entry in held:
            if entry.kind is _END:
                self.ended.add(entry.channel)
            elif entry.kind is _EVENT:
                self.ended.discard(entry.channel)
        # The cursor goes on over those that are not for this reader, too.
        frames = [(entry, self.cursor.frame(entry)) for entry in held]
        return b"".join([frame for entry, frame in frames if self._may_have(entry)])

    def _may_have(self, entry: Entry) -> bool:
        return self._client_id is None or entry.exclude != self._client_id

    def _frames(self, entries: Sequence[Entry]) -> list[bytes]:
        for entry in entries:
            if entry.kind is _END:
                self._told.add(entry.channel)
            self._reset.discard(entry.channel)
            if self._may_have(entry):
                self._position = entry.position
        return [entry.frame for entry in entries if self._may_have(entry)]
