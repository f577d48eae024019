"""Asking Redis for pages of logs, over connections of its own."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from redis.exceptions import NoScriptError

from flask_eventstream.brokers.redis.answers import LogState, RunInfo, opening_arguments
from flask_eventstream.brokers.redis.message import encode_own_id
from flask_eventstream.brokers.redis.paging import (
    FROM_THE_START,
    READ_PAGE,
    READ_PAGE_SHA,
    PageAnswer,
    make_replay,
    page_arguments,
)
from flask_eventstream.brokers.redis.reports import Reports
from flask_eventstream.brokers.redis.scripts import OPEN, REPEATED, Keys
from flask_eventstream.brokers.redis.session import failures_told
from flask_eventstream.log.entries import PAGE, Replay, Retention
from flask_eventstream.log.position import Position

__all__ = ["LogReader", "Reading"]

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class Reading:
    """A page, and where each of its channels stands when the page is delivered."""

    replay: Replay
    state: LogState
    """The log at the moment of reading."""
    stands: Mapping[str, Position]
    """In the epoch of the page. A page has one end for all of its channels, and where one channel
    has much to give that end is early; a channel that was further stays where it was."""


class LogReader:
    """Belongs to the hub's loop. Raises redis-py's errors as they are.

    Where there is one log for all channels, `begin` opens it: so it is known from the first moment
    on what a reader may have missed. In a cluster, where each channel is a log, readers write
    nothing: whoever asks for made-up names would fill the server with them.

    Args:
        client: An asynchronous client of one server.
        keys: Where the log is.
        reports: Who is told of entries that are none.
        retention: What the application asks for.
    """

    def __init__(
        self, client: Any, keys: Keys, *, reports: Reports, retention: Retention | None
    ) -> None:
        self._client = client
        self.keys = keys
        self._reports = reports
        self._retention = retention
        self._run: RunInfo | None = None

    def make_connection(self) -> Any:
        """A connection outside the pool, not connected yet, that may be silent."""
        connection = self._client.connection_pool.make_connection()
        connection.socket_timeout = None
        return connection

    async def begin(self) -> None:
        """At the beginning of a session: learn which run of the server this is."""
        self._run = RunInfo.from_info(await self._call(self._client.info()), self._reports.shown)

    async def open(self) -> None:
        """Begin a new epoch of the one log if the server was started anew. Not in a cluster."""
        if self.keys.is_cluster:
            return
        arguments = opening_arguments(
            await self._known_run(),
            epoch=secrets.token_hex(4),
            retention=self._retention,
            is_cluster=False,
        )
        await self._call(self._client.eval(OPEN, 1, self.keys.log(""), *arguments))

    async def state(self, channel: str) -> LogState:
        """How a channel's log stands now."""
        key = self.keys.log(channel)
        fields = await self._call(self._client.hmget(key, LogState.FIELDS))
        return (await self._known_run()).state_of(LogState.parse(fields))

    async def check(self, channel: str) -> None:
        """Raise what reading this channel's log raises."""
        await self._ask({channel: FROM_THE_START}, most=1)

    async def replay(self, channels: Sequence[str], after: str | None) -> Reading:
        """One page of the log after a last event ID. In a cluster, of one channel.

        What can't be placed is followed by all that is there.

        The channels stand where the log does: what the page does not reach is older than the
        moment of reading, so it is for this one reader to read on, and for nobody who is live.
        """
        if after is None:
            answer, state = await self._ask(dict.fromkeys(channels))
            position = str(state.position(state.sequence))
            replay = Replay.nothing(state.sequence, position, ended=answer.ended)
            return self._read(channels, state, replay)
        # What looks like a position is one: nobody can have such an id of its own.
        position_after = Position.parse(after) or await self._find_own_id(channels, after)
        if position_after is not None:
            answer, state = await self._ask(dict.fromkeys(channels, position_after))
            start = state.sequence_of(position_after)
            if start is not None:
                return self._read(channels, state, self._replay(answer, state, channels, start))
        answer, state = await self._ask(dict.fromkeys(channels, FROM_THE_START))
        replay = self._replay(answer, state, channels, 0)
        return self._read(channels, state, dataclasses.replace(replay, gone=frozenset(channels)))

    async def resume(self, positions: Mapping[str, Position]) -> Reading:
        """One page of the logs of several channels, each after a position of its own.

        A channel whose position means nothing any more is gone. Its next page has what the present
        epoch brought: nobody who was live before has had that.
        """
        answer, state = await self._ask(positions)
        known = {channel: state.sequence_of(position) for channel, position in positions.items()}
        starts = {channel: start for channel, start in known.items() if start is not None}
        lost = frozenset(known.keys() - starts.keys())
        replay = make_replay(answer, state, starts, skipped=self._reports.skipped)
        stands = {c: state.position(max(start, replay.sequence)) for c, start in starts.items()}
        if lost:
            began = state.position(state.began)
            stands |= dict.fromkeys(lost, began)
            replay = dataclasses.replace(
                replay,
                gone=replay.gone | lost,
                start=replay.start if starts else str(began),
                more=replay.more or state.began < state.sequence,
            )
        return Reading(replay, state, stands)

    async def close(self) -> None:
        """Close the connections."""
        await self._call(self._client.aclose())

    async def _ask(
        self, positions: Mapping[str, Position | None], *, most: int = PAGE
    ) -> tuple[PageAnswer, LogState]:
        """A page of some channels, and the log as it counts at the same moment."""
        names, arguments = page_arguments(self.keys, positions, most=most)
        count = str(len(names))
        try:
            said = await self._call(self._client.evalsha(READ_PAGE_SHA, count, *names, *arguments))
        except NoScriptError:
            said = await self._call(self._client.eval(READ_PAGE, count, *names, *arguments))
        answer = PageAnswer.parse(said, list(positions))
        if answer.state is None and not self.keys.is_cluster:  # everything was flushed
            await self.open()
            return await self._ask(positions, most=most)
        return answer, (await self._known_run()).state_of(answer.state)

    async def _find_own_id(self, channels: Iterable[str], wanted: str) -> Position | None:
        """The place of the one event of these channels whose own id this is, if there is one."""
        own = encode_own_id(wanted)
        state, found = None, []
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.hmget(self.keys.log(next(iter(channels))), LogState.FIELDS)
            for channel in channels:
                pipe.zmscore(self.keys.ids(channel), [own, REPEATED + own])
            fields, *scores = await self._call(pipe.execute())
        state = LogState.parse(fields)
        for last, repeated in scores:
            if repeated is not None:
                return None
            if last is not None:
                found.append(int(last))
        return state.position(found[0]) if state is not None and len(found) == 1 else None

    async def _known_run(self) -> RunInfo:
        if self._run is None:
            await self.begin()
        assert self._run is not None  # noqa: S101  it was learned
        return self._run

    def _replay(
        self, answer: PageAnswer, state: LogState, channels: Sequence[str], start: int
    ) -> Replay:
        starts = dict.fromkeys(channels, start)
        return make_replay(answer, state, starts, skipped=self._reports.skipped)

    @staticmethod
    def _read(channels: Iterable[str], state: LogState, replay: Replay) -> Reading:
        return Reading(replay, state, dict.fromkeys(channels, state.position(state.sequence)))

    async def _call(self, answer: Awaitable[_Answer]) -> _Answer:
        """Every command of a reader goes this way."""
        with failures_told():
            return await answer
