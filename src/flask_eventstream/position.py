"""Where a reader is in a log: the id that travels to the client and comes back.

A position names the log it belongs to (its *epoch*) and a place in it (a sequence number that
grows over all channels of that log). The epoch is what makes a loss provable: another file, a
deleted file or a power cut begins a new epoch, so an old position can't be taken for a new one.

Text form: ``EPOCH-SEQUENCE``, of letters, digits and ``-`` alone, far below 128 bytes. Other
bytes, or more of them, would make a browser preflight a cross-origin reconnect (Fetch, CORS-unsafe
request-header byte; WPT eventsource-cross-origin-preflight).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Position"]

_FORM = re.compile(r"([a-z0-9]{8,16})-(0|[1-9][0-9]{0,18})", re.ASCII)


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
