"""What a log gives: entries, and pages of them. Values only, no behaviour of a store."""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from flask_eventstream.event import STREAM_END, Event, encode_channels_event

__all__ = [
    "CONTROL_CHANNEL",
    "HIDDEN",
    "PAGE",
    "PAGE_SIZE",
    "Entry",
    "Kind",
    "Missed",
    "Over",
    "Place",
    "Replay",
    "Retention",
    "Standing",
    "UpToDate",
    "take_page",
    "up_to_date",
]

_Item = TypeVar("_Item")

#: Entries of one page of a log, and the size (bytes, or characters) after which it ends sooner:
#: what one reader who is far behind costs at a time.
PAGE = 256
PAGE_SIZE = 1024 * 1024


#: How the channels begin that no client can name and no application publish to: what the processes
#: of an application tell each other.
HIDDEN = "__"
#: Where control entries are.
CONTROL_CHANNEL = "__control"


class Kind(enum.Enum):
    """What stands at a place in a log."""

    EVENT = "event"
    """What an application published."""
    END = "end"
    """The channel ends here, until the next event."""
    CONTROL = "control"
    """What the processes of an application tell each other; no reader gets it."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One place in a channel's log."""

    channel: str
    sequence: int
    """Grows with every entry; comparable between entries of one log only."""
    position: str
    """The id that a reader who has this entry resumes from."""
    event: Event | None
    """``None`` where the channel ends."""
    kind: Kind = Kind.EVENT
    frame: bytes = field(init=False, repr=False, compare=False)
    """The bytes on the wire: made once, written to every reader."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "frame", self.encode(self.position))

    @property
    def exclude(self) -> str | None:
        """The client that does not get it."""
        return self.event.exclude if self.event is not None else None

    def encode(self, position: str) -> bytes:
        """The bytes on the wire for readers whose position after it is ``position``."""
        if self.kind is Kind.END:
            return encode_channels_event(STREAM_END, [self.channel], position)
        if self.kind is Kind.CONTROL:
            return b""
        assert self.event is not None  # noqa: S101  an event is what an event has
        return self.event.encode(position)

    @classmethod
    def end(cls, channel: str, sequence: int, position: str) -> Entry:
        """The channel's end."""
        return cls(channel, sequence, position, None, Kind.END)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a channel that has a log of its own stands."""

    sequence: int
    position: str


@dataclass(frozen=True, slots=True)
class Replay:
    """One page of the log of a reader's channels, after its position."""

    entries: Sequence[Entry]
    """Oldest first, over all channels of the reader."""
    gone: frozenset[str]
    """Channels whose log can't prove that nothing is missing before these entries."""
    sequence: int
    """How far this page reaches: an entry with a greater sequence was not read."""
    start: str
    """A position right before the first entry: who resumes there gets all of them."""
    position: str
    """The reader's position after this page."""
    more: bool = False
    """True where another page, after ``position``, has the rest."""
    ended: frozenset[str] = frozenset()
    """Channels that are ended, as of this page."""
    places: Mapping[str, Place] | None = None
    """Where each channel stands after this page, if each has a log of its own; ``None`` where one
    log holds them all, in one order, and ``sequence`` is true of each."""

    @classmethod
    def nothing(
        cls,
        sequence: int,
        position: str,
        *,
        gone: Collection[str] = (),
        ended: Collection[str] = (),
    ) -> Replay:
        """The page of a reader for whom there is nothing to read up to ``sequence``."""
        gone, ended = frozenset(gone), frozenset(ended)
        return cls((), gone, sequence, position, position, ended=ended)

    def sequence_in(self, channel: str) -> int:
        """How far this page reaches in one channel."""
        return self.sequence if self.places is None else self.places[channel].sequence


@dataclass(frozen=True, slots=True)
class Missed:
    """The log must be read for this reader: it missed something, or nobody can tell."""


@dataclass(frozen=True, slots=True)
class UpToDate:
    """The reader has everything of its channels.

    If the hub's listener stands there too, the reader can be live at once, and nobody reads
    anything for it.
    """

    latest: Mapping[str, int]
    """For each of the reader's channels, the sequence of its last entry; 0 where there is none."""
    page: Replay
    """A page without entries: what a replay would have given."""


@dataclass(frozen=True, slots=True)
class Over:
    """The reader has everything, and all its channels are ended: nothing will come."""


#: How a reader stands to the log, when it comes.
Standing = Missed | UpToDate | Over


def up_to_date(latest: Mapping[str, int], page: Replay) -> UpToDate | Over:
    """How a reader stands who has everything up to ``page``, which is without entries."""
    return Over() if len(page.ended) == len(latest) else UpToDate(latest, page)


@dataclass(frozen=True, slots=True)
class Retention:
    """How much of a channel's log a reader may still get."""

    length: int = 1000
    """Events per channel."""
    age_s: float = 86_400.0
    """Seconds: a laptop closed over night finds everything."""

    @property
    def forget_s(self) -> float:
        """Seconds after its last event for which a channel is remembered to have had any.

        Until then a reader who was away that long learns that something is gone. Afterwards a
        reader of *any* forgotten channel is told so, which is why it is long: thirty ages.
        """
        return 30 * self.age_s


def take_page(
    items: Iterable[_Item], size_of: Callable[[_Item], int], *, most: int = PAGE
) -> tuple[list[_Item], bool]:
    """The first items, by number and by size, and whether there are more: at least one."""
    taken: list[_Item] = []
    size = 0
    for item in items:
        if len(taken) == most or size > PAGE_SIZE:
            return taken, True
        taken.append(item)
        size += size_of(item)
    return taken, False
