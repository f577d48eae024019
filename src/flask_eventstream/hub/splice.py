"""One reader's way from its last event ID to live, as a pure state machine.

The way has no gap and no double: the reader is registered first, so that live entries are *held*;
then the log is *replayed* from the reader's position; then what was held is *released*, less what
the log already gave. The log is read in pages, so that a reader far behind never costs more memory
than a page, and the hold is bounded: what no longer fits is forgotten and read from the log.

Rules of this room: no clock, no socket, no loop. Whoever drives it calls `hold` for each live
entry, `reading` before and `replayed` after each page, until `caught_up`; then `release`, once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flask_eventstream.log.entries import Entry, Place, Replay

__all__ = ["Splice"]

#: Live entries kept for a reader that is still replaying. Two pages: by the time the last page is
#: read and written, more than that rarely came, and if it did the log has it.
_MAX_HELD = 512

#: Their size: as much as a page may have.
_MAX_HELD_BYTES = 1024 * 1024


class Splice:
    """One reader who is not live yet. Not thread-safe: belongs to the hub's loop."""

    __slots__ = ("_after", "_caught_up", "_held", "_held_bytes", "_places", "_sequence", "_stale")

    def __init__(self, after: str | None) -> None:
        self._after = after
        self._held: list[Entry] = []
        self._held_bytes = 0
        self._stale = False
        # How far the log was read. The page itself is not kept: it may have a megabyte.
        self._sequence = 0
        self._places: Mapping[str, Place] | None = None
        self._caught_up = False

    @property
    def after(self) -> str | None:
        """The position to read the log from next; ``None`` is "from now on"."""
        return self._after

    @property
    def caught_up(self) -> bool:
        """True when the log has nothing more to give that is not held."""
        return self._caught_up

    def hold(self, entry: Entry) -> None:
        """Keep a live entry until the reader may have it."""
        self._held_bytes += len(entry.frame)
        if len(self._held) == _MAX_HELD or self._held_bytes > _MAX_HELD_BYTES:
            self.interrupt()
        else:
            self._held.append(entry)

    def interrupt(self) -> None:
        """Live entries were lost on the way, or are too many to hold: read them from the log."""
        self._held.clear()
        self._held_bytes = 0
        self._stale = True
        self._caught_up = False

    def reading(self) -> None:
        """The log is about to be read: from here on, what is held makes up for what it lacks."""
        self._stale = False

    def replayed(self, replay: Replay) -> Replay:
        """Take note of a page of the log, whose entries the reader gets now. Returns the page."""
        self._after = replay.position
        self._sequence, self._places = replay.sequence, replay.places
        self._caught_up = not replay.more and not self._stale
        return replay

    def release(self) -> Sequence[Entry]:
        """The held entries that the log did not give. The reader is live after them."""
        held, self._held = self._held, []
        self._held_bytes = 0
        places = self._places
        if places is None:
            return [entry for entry in held if entry.sequence > self._sequence]
        return [entry for entry in held if entry.sequence > places[entry.channel].sequence]
