"""How a session comes to be live: subscribe, read what was missed, let go what was held.

Also what a session asks the log later: where a message claims a place that the log may not have,
and whether a channel's log can be read again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from redis.exceptions import NoPermissionError, ResponseError

from flask_eventstream.brokers.redis.answers import LogState
from flask_eventstream.brokers.redis.diagnosis import is_of_one_channel
from flask_eventstream.brokers.redis.following import Following
from flask_eventstream.brokers.redis.pages import LogReader
from flask_eventstream.brokers.redis.reports import Reports
from flask_eventstream.brokers.redis.session import Session

__all__ = ["CatchingUp"]

#: Channels in one command. A million-channel process must not stop the server for one SUBSCRIBE.
_BATCH = 500
#: Seconds between two looks at a log that can't be read.
_LOOK_S = 1.0


class CatchingUp:
    """Brings the followed channels of one listener to live, session by session.

    Args:
        following: The channels.
        reader: Reads their logs.
        reports: Says what is wrong.
        interrupted: The inbox's: called with channels of which something is gone, and a position.
        is_node: True for a node of a cluster.
    """

    def __init__(
        self,
        following: Following,
        reader: LogReader,
        reports: Reports,
        *,
        interrupted: Callable[[Collection[str], str], object],
        is_node: bool,
    ) -> None:
        self._following = following
        self._reader = reader
        self._reports = reports
        self._interrupted = interrupted
        self._is_node = is_node
        self._asked: deque[deque[str]] = deque()
        """The channels of each SUBSCRIBE that was not answered yet. Answers come in its order."""

    def begin(self) -> None:
        """A session is connected, and nothing was sent in it yet: hold what comes."""
        self._asked.clear()
        self._following.hold()

    async def run(self, session: Session) -> None:
        """Make all channels live."""
        channels = list(self._following.channels)
        await self.subscribe(session, channels)
        for channel in channels:
            if channel in self._following.channels:
                await self._following.channels[channel].answered.wait()
        await self._reader.open()
        for batch in self._batches(channels):
            await self._resume(batch)
        await self.settle(session)

    async def subscribe(self, session: Session, channels: Sequence[str]) -> None:
        """Ask for these channels, too."""
        for batch in self._batches(channels):
            self._asked.append(deque(batch))
            await session.try_to_send(*self._command("SUBSCRIBE", batch))

    def subscribed(self, channel: str) -> None:
        """The server has acknowledged this channel."""
        if self._asked:
            self._asked[0].popleft()
            if not self._asked[0]:
                self._asked.popleft()
        followed = self._following.channels.get(channel)
        if followed is not None:
            followed.live.set()
            followed.answered.set()

    def refused(self, session: Session, error: NoPermissionError) -> None:
        """The server lets its user have none of the channels of a SUBSCRIBE: ask one by one."""
        batch = self._asked.popleft() if self._asked else deque()
        if len(batch) > 1:
            for channel in batch:
                session.keep(self.subscribe(session, [channel]))
            return
        self._reports.damaged(batch, error)
        for channel in batch:
            if channel in self._following.channels:
                self._following.channels[channel].answered.set()

    async def unsubscribe(self, session: Session, channels: Sequence[str]) -> None:
        """Ask for these channels no more."""
        for batch in self._batches(channels):
            await session.try_to_send(*self._command("UNSUBSCRIBE", batch))

    async def settle(self, session: Session) -> None:
        """Ask the log about what is held, and let it go."""
        states: dict[str, LogState] = {}
        while True:
            await session.heard_all()
            unknown = self._following.doubtful() - states.keys()
            if not unknown:
                break
            for channel in unknown:
                await self._ask_state(channel, states)
        self._following.release(states)

    async def all_heard(self, session: Session, channels: Collection[str]) -> bool:
        """Wait until everything that the server has sent so far is delivered.

        False where one of these channels delivers nothing, because its log can't be read.
        """
        await session.heard_all()
        while self._following.holding:
            await self._following.released.wait()
            session.check()
        followed = (self._following.channels.get(channel) for channel in channels)
        return not any(one is not None and one.damaged for one in followed)

    async def watch(self, session: Session) -> None:
        """End the session when a log that could not be read in it can be read."""
        while True:
            await asyncio.sleep(_LOOK_S)
            for channel, followed in tuple(self._following.channels.items()):
                if followed.damaged and await self._can_be_read(channel):
                    self._reports.read([channel])
                    session.cut()

    async def _ask_state(self, channel: str, states: dict[str, LogState]) -> None:
        try:
            state = await self._reader.state(channel)
        except ResponseError as error:
            if not self._is_node or not is_of_one_channel(error):
                raise
            self._damage(channel, error)
        else:
            alike = [channel] if self._is_node else self._following.channels
            states.update(dict.fromkeys(alike, state))

    async def _resume(self, channels: Sequence[str]) -> None:
        try:
            await self._resume_together(channels)
        except ResponseError as error:
            if not is_of_one_channel(error):
                raise
            readable = [c for c in self._following.places(channels) if await self._can_be_read(c)]
            await self._resume_together(readable)

    async def _resume_together(self, channels: Sequence[str]) -> None:
        left = self._following.places(channels)
        more = bool(left)
        while more:
            reading = await self._reader.resume(left)
            replay = reading.replay
            if replay.gone:
                self._interrupted(replay.gone, replay.start)
            self._following.give(replay.entries)
            self._following.read(reading.stands, reading.state)
            left = self._following.places(left)
            more = replay.more and bool(left)

    async def _can_be_read(self, channel: str) -> bool:
        try:
            await self._reader.check(channel)
        except ResponseError as error:
            if not is_of_one_channel(error):
                raise
            self._damage(channel, error)
            return False
        return True

    def _damage(self, channel: str, error: Exception) -> None:
        self._following.channels[channel].damaged = True
        self._reports.damaged([channel], error)

    def _command(self, verb: str, channels: Iterable[str]) -> list[str]:
        names = map(self._reader.keys.pubsub, channels)
        return [f"S{verb}" if self._is_node else verb, *names]

    def _batches(self, channels: Sequence[str]) -> Iterator[Sequence[str]]:
        # In a cluster channels of different slots can't be in one command.
        size = 1 if self._is_node else _BATCH
        for start in range(0, len(channels), size):
            yield channels[start : start + size]
