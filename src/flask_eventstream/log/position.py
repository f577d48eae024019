"""Where a reader is in a log: the id that travels to the client and comes back.

A position names the log it belongs to (its *epoch*) and a place in it (a sequence number that
grows over all channels of that log). The epoch is what makes a loss provable: another file, a
deleted file or a power cut begins a new epoch, so an old position can't be taken for a new one.

Text form: ``EPOCH-SEQUENCE``, of letters, digits and ``-`` alone, far below 128 bytes. Other
bytes, or more of them, would make a browser preflight a cross-origin reconnect (Fetch, CORS-unsafe
request-header byte; WPT eventsource-cross-origin-preflight).

Where each channel has a log of its own, a reader of several has a position in each. They travel as
one id, ``m.SET_POSITION_POSITION…`` in the order of the channels' names, bound to that set of
channels by a checksum. Five of them fit 128 bytes; more are longer, and still work same-origin.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

__all__ = ["After", "Now", "Position", "Start", "compose", "decompose"]

_FORM = re.compile(r"([0-9a-f]{8})-(0|[1-9][0-9]{0,18})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a log: every event up to and including ``sequence`` lies behind the reader."""

    epoch: str
    sequence: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Position | None:
        """The position that ``text`` is, or ``None`` where it is something else."""
        match = _FORM.fullmatch(text)
        return cls(match[1], int(match[2])) if match else None


@dataclass(frozen=True, slots=True)
class Now:
    """Begin with what comes after the request."""


@dataclass(frozen=True, slots=True)
class After:
    """Begin right after an event."""

    id: str
    """The client's last event ID: an event's own id, or a position. Whatever a client sends."""


#: Where a reader begins.
Start = Now | After


def compose(positions: Mapping[str, str]) -> str:
    """The one id of a reader who is at these positions, channel by channel."""
    channels = sorted(positions)
    return "_".join([_prefix(channels), *(positions[channel] for channel in channels)])


def decompose(text: str, channels: Collection[str]) -> dict[str, str] | None:
    """The positions in ``text``; ``None`` where it is no id for exactly these channels."""
    names = sorted(channels)
    prefix, *positions = text.split("_")
    if prefix != _prefix(names) or len(positions) != len(names):
        return None
    return dict(zip(names, positions, strict=True))


def _prefix(channels: Collection[str]) -> str:
    return f"m.{zlib.crc32(chr(10).join(channels).encode()):08x}"
