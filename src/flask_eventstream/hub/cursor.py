"""Where the live readers of a group of channels stand, as the id that they are sent.

Where one log holds all channels in one order, the position of an entry is that of its reader. Where
each channel has a log of its own, a reader's id must carry the position in every one of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from flask_eventstream.log.entries import Entry, Place
from flask_eventstream.log.position import compose

__all__ = ["Cursor"]


class Cursor:
    """The position of a group of readers, kept up as they are given entries.

    Args:
        places: Where each channel stands, if each has a log of its own.
    """

    __slots__ = ("_positions",)

    def __init__(self, places: Mapping[str, Place] | None = None) -> None:
        self._positions: dict[str, str] | None = None
        # A reader of one channel needs no more than that channel's position.
        if places is not None and len(places) > 1:
            self._positions = {channel: place.position for channel, place in places.items()}

    def frame(self, entry: Entry) -> bytes:
        """The bytes of an entry that the readers are given now."""
        if self._positions is None or not entry.position:
            return entry.frame
        self._positions[entry.channel] = entry.position
        return entry.encode(compose(self._positions))

    def jump(self, channels: Iterable[str], position: str) -> str:
        """Go on at ``position`` in these channels. Returns the readers' id."""
        if self._positions is None:
            return position
        self._positions.update(dict.fromkeys(channels, position))
        return compose(self._positions)
