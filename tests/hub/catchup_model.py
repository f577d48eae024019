"""A log, a listener and a page in the plainest form, to judge a reader's way to live by.

Nothing of the package's own brokers is used: `ModelLog` is written from what `Replay` promises.
"""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field, replace

from flask_eventstream.event import RESET, STREAM_END, Event
from flask_eventstream.hub.catchup import CatchUp
from flask_eventstream.hub.splice import Splice
from flask_eventstream.log.entries import Entry, Kind, Place, Replay
from flask_eventstream.log.position import compose, decompose
from harness.event_stream import Dispatched, EventStreamParser

__all__ = ["Client", "Connection", "ModelLog"]


@dataclass
class ModelLog:
    """A log of some channels: either one for all, or (`apart`) one for each of them.

    Offsets grow over all channels in both; what differs is what a position says.
    """

    apart: bool = False
    head: int = 0
    entries: list[Entry] = field(default_factory=list)
    """Everything ever appended."""
    trimmed: dict[str, int] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)

    def append(self, channel: str, *, end: bool = False) -> Entry:
        self.head += 1
        event = None if end else Event(str(self.head), type=channel)
        kind = Kind.END if end else Kind.EVENT
        self.entries.append(Entry(channel, self.head, self.position(self.head), event, kind))
        (self.ended.add if end else self.ended.discard)(channel)
        return self.entries[-1]

    def trim(self, channel: str, keep: int) -> None:
        of_channel = [entry.sequence for entry in self.entries if entry.channel == channel]
        if len(of_channel) > keep:
            last = of_channel[-keep - 1]
            self.trimmed[channel] = max(self.trimmed.get(channel, 0), last)

    def position(self, sequence: int) -> str:
        return f"p-{sequence}"

    def read(self, channels: list[str], after: str | None, page: int) -> Replay:
        starts = self._starts(channels, after)
        gone = frozenset(c for c, start in starts.items() if start < self.trimmed.get(c, 0))
        due = [
            entry
            for entry in self.entries
            if entry.channel in starts
            and entry.sequence > max(starts[entry.channel], self.trimmed.get(entry.channel, 0))
        ]
        given, more = due[:page], len(due) > page
        reached = given[-1].sequence if more else self.head
        start = given[0].sequence - 1 if given else self.head
        return Replay(
            entries=self._for_wire(channels, starts, given, gone, start),
            gone=gone,
            sequence=reached,
            start=self._id(channels, self._at(channels, starts, gone, start)),
            position=self._id(channels, dict.fromkeys(channels, reached)),
            more=more,
            ended=frozenset(self.ended & set(channels)),
            places=self._places(channels, reached),
        )

    # ---- positions

    def _is_composed(self, channels: list[str]) -> bool:
        return self.apart and len(channels) > 1

    def _starts(self, channels: list[str], after: str | None) -> dict[str, int]:
        if after is None:
            return dict.fromkeys(channels, self.head)
        if not self._is_composed(channels):
            return dict.fromkeys(channels, int(after.removeprefix("p-")))
        positions = decompose(after, channels)
        assert positions is not None, after
        return {c: int(position.removeprefix("p-")) for c, position in positions.items()}

    def _id(self, channels: list[str], sequences: dict[str, int]) -> str:
        if self._is_composed(channels):
            return compose({c: self.position(sequence) for c, sequence in sequences.items()})
        return self.position(min(sequences.values()))

    def _at(
        self, channels: list[str], starts: dict[str, int], gone: frozenset[str], start: int
    ) -> dict[str, int]:
        if not self._is_composed(channels):
            return dict.fromkeys(channels, start)
        # Each channel has its own place: where it was, or behind what is gone.
        return {c: self.trimmed[c] if c in gone else starts[c] for c in channels}

    def _for_wire(
        self,
        channels: list[str],
        starts: dict[str, int],
        given: list[Entry],
        gone: frozenset[str],
        start: int,
    ) -> list[Entry]:
        if not self._is_composed(channels):
            return given
        at, composed = self._at(channels, starts, gone, start), []
        for entry in given:
            at[entry.channel] = entry.sequence
            position = self._id(channels, at)
            composed.append(replace(entry, position=position))
        return composed

    def _places(self, channels: list[str], reached: int) -> dict[str, Place] | None:
        if not self.apart:
            return None
        return {c: Place(reached, self.position(reached)) for c in channels}


@dataclass
class Client:
    """What the page has seen, over all its connections, and the id that it comes back with."""

    channels: list[str]
    seen: list[Dispatched] = field(default_factory=list)
    last_event_id: str = ""

    def sequences(self) -> list[int]:
        return [int(event["data"]) for event in self.seen if event["type"] in self.channels]


class Connection:
    """One connection of a client: the hub's part, without loop and sockets.

    Live entries are posted as they are appended, and arrive when the test says so. A page is
    asked for, read and given in three steps, between which anything may happen.
    """

    def __init__(self, log: ModelLog, client: Client, *, page: int, tells_position: bool) -> None:
        self.log = log
        self.client = client
        self.live = False
        self.resets: list[str] = []
        """Channels that were reset on this connection, and that gave nothing since."""
        self.began_at = log.head
        """Where the log stood when the first page was read."""
        after = client.last_event_id or None
        self.splice = Splice(after)
        self._catch_up = CatchUp(
            client.channels, after, preamble=b"retry: 5\n:\n", tells_position=tells_position
        )
        self._parser = EventStreamParser()
        # What a browser keeps over connections (9.2.6): a stream that sets no id leaves it.
        self._parser._id = self._parser.last_event_id = client.last_event_id
        self._page = page
        self._posted: deque[Entry] = deque()
        self._asked = False
        self._replay: Replay | None = None

    # ---- what the broker does

    def post(self, entry: Entry) -> None:
        if entry.channel in self.client.channels:
            self._posted.append(entry)

    def deliver(self, count: int) -> None:
        for _ in range(min(count, len(self._posted))):
            self._take(self._posted.popleft())

    def lose(self) -> None:
        """Posted entries are lost on the way, as when the connection to a broker breaks."""
        if not self.live:
            self._posted.clear()
            self.splice.interrupt()

    # ---- what the hub does

    def step(self) -> None:
        """The next of: ask for a page, have it read, be given it, become live."""
        if self.live:
            return
        if not self._asked:
            self._asked = True
            self.splice.reading()
        elif self._replay is None:
            channels = self.client.channels
            if self.splice.after is None:
                self.began_at = self.log.head
            self._replay = self.log.read(channels, self.splice.after, self._page)
        else:
            self._be_given(self._replay)

    def _be_given(self, replay: Replay) -> None:
        # The broker's promise: what the page reaches has been delivered before it is given.
        while self._posted and self._posted[0].sequence <= replay.sequence:
            self._take(self._posted.popleft())
        self.splice.replayed(replay)
        self._receive(self._catch_up.page(replay))
        self._asked, self._replay = False, None
        if self.splice.caught_up:
            self._receive(self._catch_up.release(self.splice.release()))
            self.live = True

    def _take(self, entry: Entry) -> None:
        if self.live:
            self._receive(self._catch_up.cursor.frame(entry))
        else:
            self.splice.hold(entry)

    # ---- what the client does

    def _receive(self, written: bytes) -> None:
        for event in self._parser.feed(written):
            self._note(event)
            self.client.seen.append(event)
        self.client.last_event_id = self._parser.last_event_id

    def _note(self, event: Dispatched) -> None:
        if event["type"] == RESET:
            channels = json.loads(event["data"])["channels"]
            assert not set(channels) & set(self.resets), "a reset that says nothing new"
            self.resets += channels
        elif event["type"] == STREAM_END:
            ended = json.loads(event["data"])["channels"]
            self.resets = [channel for channel in self.resets if channel not in ended]
        elif event["type"] in self.resets:
            self.resets.remove(event["type"])
