"""Asking Redis for pages of logs, over connections of its own."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask_eventstream.brokers.redis.answers import (
    ChannelPage,
    ChannelState,
    LogState,
    RunInfo,
    make_entry,
    make_replay,
    opening_arguments,
)
from flask_eventstream.brokers.redis.scripts import OPEN, Keys
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.log.entries import PAGE, Replay, Retention
from flask_eventstream.log.position import Position

__all__ = ["LogReader", "Reading"]


@dataclass(frozen=True, slots=True)
class Reading:
    """A page, and where each of its channels stands when the page is delivered."""

    replay: Replay
    stands: Mapping[str, Position]
    """In the epoch of the page. A page has one end for all of its channels, and where one channel
    has much to give that end is early; a channel that was further stays where it was."""


class LogReader:
    """Belongs to the hub's loop. Raises redis-py's errors as they are.

    Args:
        client: An asynchronous client of one server.
        keys: Where the log is.
        shown: The server, for people.
        retention: What the application asks for.
    """

    def __init__(self, client: Any, keys: Keys, *, shown: str, retention: Retention | None) -> None:
        self._client = client
        self.keys = keys
        self._shown = shown
        self._retention = retention
        self._run: RunInfo | None = None

    def make_connection(self) -> Any:
        """A connection outside the pool, not connected yet, that may be silent."""
        connection = self._client.connection_pool.make_connection()
        connection.socket_timeout = None
        return connection

    async def begin(self) -> None:
        """At the beginning of a session: learn which run of the server this is."""
        self._run = RunInfo.from_info(await self._client.info(), self._shown)

    async def open(self, channel: str) -> LogState:
        """Begin a new epoch if the server was started anew, and say where the log stands."""
        if self._run is None:
            await self.begin()
        assert self._run is not None  # noqa: S101
        arguments = opening_arguments(
            self._run,
            epoch=secrets.token_hex(4),
            retention=self._retention,
            is_cluster=self.keys.is_cluster,
        )
        key = self.keys.log(channel)
        await self._client.eval(OPEN, 1, key, *arguments)
        state = LogState.parse(await self._client.hmget(key, LogState.FIELDS))
        if state is None:
            raise BrokerUnavailable(self._shown, "its log was removed while it was opened")
        return state

    async def replay(self, channels: Sequence[str], after: str | None) -> Reading:
        """One page of the log after a last event ID. In a cluster, of one channel.

        The channels stand where the log does: what the page does not reach is older than the
        moment of reading, so it is for this one reader to read on, and for nobody who is live.
        """
        position = Position.parse(after) if after is not None else None
        state, pages, now_ms = await self._ask(dict.fromkeys(channels, position))
        start = state.sequence
        if after is not None:
            known = state.sequence_of(position) if position is not None else None
            if known is None:
                own = await self._find_own_id(channels, after)
                if own is None:
                    return self._read(channels, state, self._nothing(state, pages, gone=channels))
                return await self.replay(channels, str(state.position(own)))
            start = known
        if start == state.sequence:
            return self._read(channels, state, self._nothing(state, pages, gone=()))
        starts = dict.fromkeys(channels, start)
        return self._read(channels, state, make_replay(state, starts, pages, now_ms=now_ms))

    async def resume(self, positions: Mapping[str, Position]) -> Reading:
        """One page of the logs of several channels, each after a position of its own.

        A channel whose position means nothing any more is gone, and goes on from now.
        """
        state, pages, now_ms = await self._ask(positions)
        known = {channel: state.sequence_of(position) for channel, position in positions.items()}
        lost = frozenset(channel for channel, start in known.items() if start is None)
        starts = {c: state.sequence if start is None else start for c, start in known.items()}
        kept = [page for page in pages if page.channel not in lost]
        replay = make_replay(state, starts, kept, now_ms=now_ms)
        stands = {c: state.position(max(start, replay.sequence)) for c, start in starts.items()}
        return Reading(dataclasses.replace(replay, gone=replay.gone | lost), stands)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def _ask(
        self, positions: Mapping[str, Position | None]
    ) -> tuple[LogState, list[ChannelPage], int]:
        """Everything about some channels at one moment: the state, and events after positions."""
        any_channel = next(iter(positions))
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.time()
            pipe.hmget(self.keys.log(any_channel), LogState.FIELDS)
            for channel, position in positions.items():
                pipe.hmget(self.keys.channel(channel), ChannelState.FIELDS)
                if position is not None:
                    after = f"({position.sequence}-0"
                    pipe.xrange(self.keys.events(channel), min=after, count=PAGE + 1)
            answers = iter(await pipe.execute())
        seconds, microseconds = next(answers)
        state = LogState.parse(next(answers))
        if state is None:  # nobody published yet, or everything was flushed
            await self.open(any_channel)
            return await self._ask(positions)
        pages = []
        for channel, position in positions.items():
            channel_state = ChannelState.parse(next(answers))
            rows = next(answers) if position is not None else ()
            pages.append(ChannelPage(channel, channel_state, rows))
        return state, pages, seconds * 1000 + microseconds // 1000

    @staticmethod
    def _read(channels: Iterable[str], state: LogState, replay: Replay) -> Reading:
        return Reading(replay, dict.fromkeys(channels, state.position(state.sequence)))

    def _nothing(
        self, state: LogState, pages: Iterable[ChannelPage], *, gone: Iterable[str]
    ) -> Replay:
        position = str(state.position(state.sequence))
        ended = frozenset(page.channel for page in pages if page.state.ended)
        return Replay.nothing(state.sequence, position, gone=frozenset(gone), ended=ended)

    async def _find_own_id(self, channels: Sequence[str], wanted: str) -> int | None:
        """The newest event of these channels whose own id this is. Reads all they have."""
        found = [await self._find_in(channel, wanted) for channel in channels]
        return max((sequence for sequence in found if sequence is not None), default=None)

    async def _find_in(self, channel: str, wanted: str) -> int | None:
        before = "+"
        while True:
            key = self.keys.events(channel)
            rows = await self._client.xrevrange(key, max=before, count=PAGE)
            for row_id, fields in rows:
                sequence = int(row_id.partition(b"-")[0])
                entry = make_entry(channel, fields.get(b"m", b""), Position("00000000", sequence))
                if entry is not None and entry.event is not None and entry.event.id == wanted:
                    return sequence
            if len(rows) < PAGE:
                return None
            before = "(" + rows[-1][0].decode()
