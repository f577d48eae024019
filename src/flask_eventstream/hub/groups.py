"""Streams that get the same bytes: one group for each set of channels that somebody reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flask_eventstream.hub.cursor import Cursor
from flask_eventstream.hub.stream import Stream
from flask_eventstream.log.entries import Entry, Kind

__all__ = ["Group", "Groups"]

#: Looked up once: as an attribute of its enumeration each costs 40 ns per entry.
_END = Kind.END
_EVENT = Kind.EVENT


class Group:
    """The live streams of one set of channels. They all get the same bytes."""

    __slots__ = ("channels", "cursor", "ended", "frames", "streams", "wrote_at_s")

    def __init__(
        self,
        channels: tuple[str, ...],
        *,
        ended: set[str],
        now_s: float,
        cursor: Cursor | None = None,
    ) -> None:
        self.channels = channels
        self.cursor = cursor or Cursor()
        self.streams: dict[Stream, None] = {}
        """In the order of their coming, which is about that of their memory, also the kernel's."""
        self.frames: list[bytes] = []
        """What the streams get with the next write."""
        self.ended = ended
        """Channels that are ended."""
        self.wrote_at_s = now_s

    @property
    def over(self) -> bool:
        """True where no channel can bring anything more."""
        return len(self.ended) == len(self.channels)

    def join(self, stream: Stream) -> None:
        """Give the stream what comes from now on."""
        self.streams[stream] = None

    def add(self, entry: Entry) -> None:
        """Give an entry to the streams, with the next write."""
        self.frames.append(self.cursor.frame(entry))
        if entry.kind is _END:
            self.ended.add(entry.channel)
        elif entry.kind is _EVENT:
            self.ended.discard(entry.channel)


class Groups:
    """The groups that have streams. Belongs to the hub's loop."""

    def __init__(self) -> None:
        self._all: dict[tuple[str, ...], Group] = {}
        # Most channels that many read are in one group, or few: a tuple, which is small. Of several
        # groups a dictionary, because a group that leaves would be searched for.
        self._of: dict[str, tuple[Group] | dict[Group, None]] = {}

    def __iter__(self) -> Iterator[Group]:
        return iter(self._all.values())

    def __len__(self) -> int:
        return len(self._all)

    def get(self, channels: tuple[str, ...]) -> Group | None:
        """The group of exactly these channels."""
        return self._all.get(channels)

    def of(self, channel: str) -> Iterable[Group]:
        """The groups to which a channel's events go."""
        return self._of.get(channel, ())

    def add(self, group: Group) -> None:
        """Take in a group, the first of its channels."""
        self._all[group.channels] = group
        for channel in group.channels:
            groups = self._of.get(channel)
            if groups is None:
                self._of[channel] = (group,)
            elif isinstance(groups, tuple):
                self._of[channel] = {groups[0]: None, group: None}
            else:
                groups[group] = None

    def leave(self, stream: Stream, channels: tuple[str, ...]) -> None:
        """Take a stream out of its group; a group without streams is forgotten."""
        group = self._all.get(channels)
        if group is None:
            return
        group.streams.pop(stream, None)
        if group.streams:
            return
        del self._all[channels]
        for channel in channels:
            groups = self._of[channel]
            if isinstance(groups, tuple):
                del self._of[channel]
            else:
                del groups[group]
                if not groups:
                    del self._of[channel]
