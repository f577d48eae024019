"""The channels that one connection is subscribed to, and where each of them stands.

Rules of this room: no loop, no socket, no Redis. Messages come in, entries go out; what the log
says is told by whoever asked it.

**What is live is in the log first**, because one script writes both. So a position that a message
claims is believed only if the log can have reached it. Anybody may publish anything to a channel;
a forged position that was believed would make all later events look old.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from flask_eventstream.brokers.redis.answers import LogState
from flask_eventstream.brokers.redis.message import Message
from flask_eventstream.log.entries import Entry, Replay
from flask_eventstream.log.position import Position

__all__ = ["Followed", "Following", "Heard"]

#: How far an event may be ahead of what is known of the log. In one log each event of any channel
#: counts, so a calm channel jumps. Where it jumps further, the log is asked.
_MOST_AHEAD = 1_000_000
#: The sequence of an entry that is in no log: greater than all, so no replay can have given it.
_NEVER_LOGGED = 2**63 - 1
#: Live messages held while a session catches up, by number and by bytes. More, and the session
#: begins anew: the log has them. As many bytes as a server's own output buffer for such a client.
_MAX_HELD = 50_000
_MAX_HELD_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Heard:
    """A message that was heard on a channel."""

    channel: str
    message: Message
    size: int
    """In bytes."""


class Followed:
    """One subscribed channel."""

    __slots__ = ("answered", "damaged", "edge", "last", "live", "wanted")

    def __init__(self) -> None:
        self.wanted = True
        self.answered = asyncio.Event()
        """Set when the server has acknowledged the subscription, or refused it."""
        self.live = asyncio.Event()
        """Set while the server has acknowledged the subscription."""
        self.last: Position | None = None
        """Everything up to here was delivered, or was given to readers from the log."""
        self.edge: Position | None = None
        """Where its log stands, as far as is known."""
        self.damaged = False
        """True while its log can't be read: what is live may lie behind a gap."""

    def stands_at(self, page: Replay, latest: int) -> bool:
        """True where nothing was delivered that is newer than a page, and all that it knows of.

        ``latest`` is the sequence of the channel's last entry as of the page.
        """
        last = self.last
        return (
            last is not None
            and self.live.is_set()
            and not self.damaged
            and page.position.startswith(f"{last.epoch}-")
            and latest <= last.sequence <= page.sequence
        )

    def end_session(self) -> None:
        """The server is not subscribed any more; what is wrong is to be found anew."""
        self.answered.clear()
        self.live.clear()
        self.damaged = False

    def is_next(self, position: Position) -> bool:
        """True where a live message may have this position, for all that is known."""
        edge, last = self.edge, self.last
        return (
            edge is not None
            and position.epoch == edge.epoch
            and position.sequence <= edge.sequence + _MOST_AHEAD
            and (last is None or last.epoch != edge.epoch or last.sequence < position.sequence)
        )

    def is_behind(self, position: Position) -> bool:
        """True where a live message of this position was delivered, or given from the log."""
        last = self.last
        return (
            last is not None and last.epoch == position.epoch and last.sequence >= position.sequence
        )

    def reach(self, position: Position) -> None:
        """Note that everything up to here was delivered, or given from the log."""
        last = self.last
        if last is None or last.epoch != position.epoch or last.sequence < position.sequence:
            self.last = position
        edge = self.edge
        if edge is None or edge.epoch != position.epoch or edge.sequence < position.sequence:
            self.edge = position


class Following:
    """The followed channels of one listener. Belongs to the loop.

    Args:
        deliver: Who gets the entries, in the order of the log.
    """

    def __init__(self, deliver: Callable[[Sequence[Entry]], object]) -> None:
        self.channels: dict[str, Followed] = {}
        self._deliver = deliver
        self._held: list[Heard] | None = None
        self._held_bytes = 0
        self.released = asyncio.Event()
        """Set while nothing is held."""
        self.released.set()

    @property
    def holding(self) -> bool:
        """True while messages are held, until the log was asked."""
        return self._held is not None

    def hold(self) -> None:
        """Hold what comes from now on; what was held before is forgotten."""
        self._held, self._held_bytes = [], 0
        self.released.clear()

    def places(self, channels: Iterable[str]) -> dict[str, Position]:
        """Where those of these channels stand that were delivered before."""
        found = ((name, self.channels.get(name)) for name in channels)
        return {name: one.last for name, one in found if one is not None and one.last is not None}

    def read(self, stands: Mapping[str, Position], state: LogState) -> None:
        """Note what the log said of some channels."""
        edge = state.position(state.sequence)
        for channel, position in stands.items():
            followed = self.channels.get(channel)
            if followed is not None:
                followed.reach(position)
                followed.edge = edge

    def give(self, entries: Sequence[Entry]) -> None:
        """Deliver entries of the log."""
        wanted = [e for e in entries if (f := self.channels.get(e.channel)) and f.wanted]
        if wanted:
            self._deliver(wanted)

    def hear(self, heard: Heard) -> bool:
        """Deliver or hold a message. False where the log must be asked: it is held till then.

        Raises:
            ConnectionError: Too much is held.
        """
        if self._held is None:
            followed = self.channels[heard.channel]
            position = heard.message.position
            if position is None or followed.is_next(position):
                self._give(followed, heard)
                return True
            self.hold()
        self._hold(heard)
        return False

    def doubtful(self) -> set[str]:
        """Channels of which something is held that can't be told from a lie by what is known."""
        return {
            heard.channel
            for heard in self._held or ()
            if (position := heard.message.position) is not None
            and (followed := self.channels.get(heard.channel)) is not None
            and not (followed.damaged or followed.is_next(position))
        }

    def release(self, states: Mapping[str, LogState]) -> None:
        """Let go what is held: what the log has not given, and what is in no log.

        Args:
            states: Where the logs of all doubtful channels stood a moment ago. All that they had
                then has been heard.
        """
        held, self._held = self._held or [], None
        self.released.set()
        lying = self._correct(states)
        for heard in held:
            followed = self.channels.get(heard.channel)
            position = heard.message.position
            if followed is None:
                continue
            if position is None or followed.is_next(position):
                self._give(followed, heard)
            elif not followed.is_behind(position) and not _is_foreign(
                position, states.get(heard.channel)
            ):
                # It claims a place in the log that it does not have.
                claimless = dataclasses.replace(heard.message, position=None)
                self._give(followed, dataclasses.replace(heard, message=claimless))
        for followed, edge in lying:
            if followed.last is None:
                followed.last = edge

    def _correct(self, states: Mapping[str, LogState]) -> list[tuple[Followed, Position]]:
        """Take note of where logs stand. Channels that were thought to be further stand nowhere."""
        lying = []
        for channel, state in states.items():
            followed = self.channels.get(channel)
            if followed is not None:
                followed.edge = edge = state.position(state.sequence)
                last = followed.last
                if last and last.epoch == edge.epoch and last.sequence > edge.sequence:
                    followed.last = None
                    lying.append((followed, edge))
        return lying

    def _hold(self, heard: Heard) -> None:
        assert self._held is not None  # noqa: S101  it was looked at
        self._held.append(heard)
        self._held_bytes += heard.size
        if len(self._held) > _MAX_HELD or self._held_bytes > _MAX_HELD_BYTES:
            raise ConnectionError("more arrived than can be held while catching up")

    def _give(self, followed: Followed, heard: Heard) -> None:
        message = heard.message
        if message.position is None:
            entry = message.entry(heard.channel, _NEVER_LOGGED)
        elif followed.damaged:
            return  # it may lie behind a gap; when the log can be read again, it has it
        else:
            followed.reach(message.position)
            entry = message.entry(heard.channel, message.position.sequence)
        if followed.wanted:
            self._deliver([entry])


def _is_foreign(position: Position, state: LogState | None) -> bool:
    """True for a position of another log: pub/sub is one for all databases of a server.

    It is not remembered, because databases can be swapped.
    """
    return state is not None and position.epoch not in {state.epoch, *state.past}
