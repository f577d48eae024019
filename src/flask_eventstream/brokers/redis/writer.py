"""Appending to logs in Redis: in one step, once, and within one deadline.

An event whose answer is missing may have been published. So it is never sent again, and the caller
is told. What the server refused has done nothing, as a whole: where that passes (a script that it
lost, a slot that moves) it is sent again, until the deadline.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import redis

from flask_eventstream.brokers.redis.answers import RunInfo, opening_arguments
from flask_eventstream.brokers.redis.diagnosis import diagnose, parse_info
from flask_eventstream.brokers.redis.scripts import NEEDS_OPENING, OPEN, REMEMBER, Keys, Script
from flask_eventstream.brokers.redis.servers import Line, Server, Servers
from flask_eventstream.brokers.redis.url import RedisUrl
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.log.entries import Retention
from flask_eventstream.log.position import Position

__all__ = ["FAILURES", "LogWriter", "unavailable"]

_Done = TypeVar("_Done")

#: Seconds between two tries while a cluster moves a slot, or Sentinels another primary.
_PAUSE_S = 0.05

#: Of the time until the deadline, what replicas may have to confirm. The rest is for the answer.
_CONFIRM_PART = 0.8

#: What a cluster says of a slot that moves, or moved, and what a primary that is none any more.
_MOVING = (
    redis.exceptions.MovedError,
    redis.exceptions.AskError,
    redis.exceptions.TryAgainError,
)
_DEMOTED = (redis.exceptions.ReadOnlyError,)

#: What a server or a network that fails raises.
FAILURES = (redis.RedisError, OSError)

_NOT = "the event is not published"
_DOUBT = "the event may be published all the same"


class LogWriter:
    """Any thread may use it; a forked child makes one of its own.

    Args:
        url: Where the log is.
        keys: Its names.
        servers: Who has it.
        retention: What the application asks for.
        timeout_s: Seconds that appending may take at the most.
    """

    def __init__(
        self,
        url: RedisUrl,
        keys: Keys,
        servers: Servers,
        *,
        retention: Retention | None,
        timeout_s: float,
    ) -> None:
        self._url = url
        self._keys = keys
        self._servers = servers
        self._retention = retention
        self._timeout_s = timeout_s
        self._passing: tuple[type[Exception], ...] = ()
        if url.addresses:
            self._passing = _MOVING if url.is_cluster else _DEMOTED

    def append(self, channel: str, bodies: Sequence[str], *, ends: bool = False) -> list[str]:
        """Append messages to a channel, all or none, and publish them. Gives their positions.

        Raises:
            BrokerUnavailable: It is not known that they were appended.
        """
        return self._append([channel], bodies, self._deadline_s(), ends=ends)

    def append_to(self, channels: Sequence[str], body: str, *, into: dict[str, str]) -> None:
        """Append a message to each of some channels, and publish it there, in one round trip.

        Args:
            channels: Each once.
            body: The message.
            into: Gets the message's position in each channel that is known to have it.

        Raises:
            BrokerUnavailable: It is not known that all have it.
        """
        until_s = self._deadline_s()
        if not self._url.is_cluster:
            positions = self._append(channels, [body], until_s)
            into.update(zip(channels, positions, strict=True))
            return
        # Each channel is a log of its own, and those of a node go together.
        try:
            self._append_at_nodes(channels, body, until_s, into)
        except FAILURES as error:
            self._servers.refresh()
            raise unavailable(self._url, error, fate=_NOT) from self._url.cause(error)
        # What a node refused, because of a new log for example, did nothing there.
        for channel in channels:
            if channel not in into:
                into[channel] = self._append([channel], [body], until_s)[0]

    def _append_at_nodes(
        self, channels: Sequence[str], body: str, until_s: float, into: dict[str, str]
    ) -> None:
        nodes: dict[Server, list[str]] = {}
        for channel in channels:
            nodes.setdefault(self._servers.of(channel, until_s), []).append(channel)
        for server, theirs in nodes.items():
            script = server.script
            if script.text:
                arguments = (self._arguments([channel], [body]) for channel in theirs)
                calls = [("EVALSHA", script.sha, *some) for some in arguments]
                with server.line(until_s) as line:
                    wanted = self._wanted(server, line)
                    answers, confirmed = self._ask(line, calls, wanted)
                    self._check_confirmed(server, line, wanted, confirmed)
                done = zip(theirs, answers, strict=True)
                into.update((c, one.decode()) for c, one in done if isinstance(one, bytes))

    def _append(
        self, channels: Sequence[str], bodies: Sequence[str], until_s: float, *, ends: bool = False
    ) -> list[str]:
        """Append all messages to each channel, and give their positions, channel by channel."""

        def publish(server: Server, line: Line) -> Position:
            return self._publish(server, line, channels, bodies, ends=ends)

        first = self._at(channels[0], publish, until_s)
        after = range(first.sequence, first.sequence + len(channels) * len(bodies))
        return [f"{first.epoch}-{sequence}" for sequence in after]

    def remember(self, name: str, text: str, *, for_s: float) -> None:
        """Keep a text; again in the same words does no harm.

        Raises:
            BrokerUnavailable: It may not be kept.
        """
        command = ("EVAL", REMEMBER, 1, self._keys.record(name), text, max(1, int(for_s * 1000)))

        def write(server: Server, line: Line) -> None:
            wanted = self._wanted(server, line)
            (answer,), confirmed = self._ask(line, [command], wanted)
            if isinstance(answer, Exception):
                raise answer
            self._check_confirmed(server, line, wanted, confirmed)

        try:
            self._at(name, write, self._deadline_s())
        except BrokerUnavailable as error:
            error.fate = "it may not be remembered"
            raise

    def _deadline_s(self) -> float:
        return time.monotonic() + self._timeout_s

    def _at(self, channel: str, do: Callable[[Server, Line], _Done], until_s: float) -> _Done:
        """What is done on the server that has a channel; again where that passes.

        Raises:
            BrokerUnavailable: It is not known that it was done.
        """
        while True:
            try:
                server = self._servers.of(channel, until_s)
                with server.line(until_s) as line:
                    return do(server, line)
            except self._passing as error:
                self._servers.refresh()
                if time.monotonic() + _PAUSE_S > until_s:
                    raise unavailable(self._url, error, fate=_NOT) from self._url.cause(error)
                time.sleep(_PAUSE_S)
            except FAILURES as error:
                self._servers.refresh()
                raise unavailable(self._url, error, fate=_NOT) from self._url.cause(error)

    def _wanted(self, server: Server, line: Line) -> int:
        """How many replicas shall confirm."""
        return min(self._url.replicas, server.online_replicas(line)) if self._url.replicas else 0

    def _arguments(
        self, channels: Sequence[str], bodies: Sequence[str], *, ends: bool = False
    ) -> Sequence[Any]:
        """What the publishing script is called with."""
        keys = [self._keys.log(channels[0])]
        for channel in channels:
            keys += self._keys.of(channel)
        verb = "SPUBLISH" if self._url.is_cluster else "PUBLISH"
        pubsub = map(self._keys.pubsub, channels)
        return (len(keys), *keys, verb, "1" if ends else "0", *pubsub, *bodies)

    def _publish(
        self,
        server: Server,
        line: Line,
        channels: Sequence[str],
        bodies: Sequence[str],
        *,
        ends: bool,
    ) -> Position:
        """Append and publish, and give the first's position. Mends what the script lacks.

        Raises:
            redis.RedisError, OSError: Nothing was appended.
            BrokerUnavailable: It may have been.
        """
        wanted = self._wanted(server, line)
        rest = self._arguments(channels, bodies, ends=ends)
        while True:
            script = server.script
            if script.text:
                call = ("EVALSHA", script.sha, *rest)
            else:
                script = server.script = self._open(line, channels[0])
                # By its text, because another SCRIPT FLUSH may come between.
                call = ("EVAL", script.text, *rest)
            (answer,), confirmed = self._ask(line, [call], wanted)
            if not isinstance(answer, Exception):
                self._check_confirmed(server, line, wanted, confirmed)
                first = Position.parse(answer.decode())
                assert first is not None  # noqa: S101  our own script made it
                return first
            lost = isinstance(answer, redis.exceptions.NoScriptError)
            if not lost and not str(answer).startswith(NEEDS_OPENING):
                self._check_undone(answer, channels)
                raise answer
            # A server that was started anew, SCRIPT FLUSH, FLUSHALL, a cluster's new channel.
            if server.script is script:
                server.script = Script()

    def _check_undone(self, answer: Exception, channels: Sequence[str]) -> None:
        """Raise where the script may have failed at a later channel, after the first ones."""
        undone = (*self._passing, redis.exceptions.OutOfMemoryError)
        if len(channels) > 1 and not isinstance(answer, undone):
            doubt = unavailable(self._url, answer, fate=_DOUBT, in_doubt=True)
            raise doubt from self._url.cause(answer)

    def _ask(
        self, line: Line, calls: Sequence[Sequence[Any]], wanted: int
    ) -> tuple[list[Any], Any]:
        """The answers to calls of scripts, and what replicas confirmed of all of them."""
        left_ms = max(1, int(line.left_s * _CONFIRM_PART * 1000))
        commands = [*calls, ("WAIT", wanted, left_ms)] if wanted else calls
        try:
            answers = line.ask(*commands)
        except FAILURES as error:
            self._servers.refresh()
            doubt = unavailable(self._url, error, fate=_DOUBT, in_doubt=True)
            raise doubt from self._url.cause(error)
        return answers[: len(calls)], answers[-1] if wanted else 0

    def _check_confirmed(self, server: Server, line: Line, wanted: int, confirmed: Any) -> None:
        """Refuse what a failover would lose, as long as there is a replica that could keep it."""
        if isinstance(confirmed, Exception):
            doubt = unavailable(self._url, confirmed, fate=_DOUBT, in_doubt=True)
            raise doubt from self._url.cause(confirmed)
        if confirmed >= wanted:
            return
        try:
            wanted = min(wanted, server.online_replicas(line, now=True))
        except FAILURES as error:
            doubt = unavailable(self._url, error, fate=_DOUBT, in_doubt=True)
            raise doubt from self._url.cause(error)
        if confirmed < wanted:
            why = f"{confirmed} of {wanted} replicas confirmed the event"
            raise BrokerUnavailable(self._url.shown, why, fate=_DOUBT, in_doubt=True)

    def _open(self, line: Line, channel: str) -> Script:
        """Open the log for this run of the server, and make the script that publishes."""
        info = parse_info(line.ask_one("INFO"))
        if info.get("redis_mode") == "sentinel":
            remedy = "write redis+sentinel://HOST:PORT/SERVICE in the URL"
            raise BrokerUnavailable(self._url.shown, "it is a Sentinel", remedy, fate=_NOT)
        try:
            run = RunInfo.from_info(info, self._url.shown)
        except BrokerUnavailable as error:
            error.fate = _NOT
            raise
        arguments = opening_arguments(
            run,
            epoch=secrets.token_hex(4),
            retention=self._retention,
            is_cluster=self._url.is_cluster,
        )
        line.ask_one("EVAL", OPEN, 1, self._keys.log(channel), *arguments)
        return Script.of(run.run_id, may_outlive=run.keeps_scripts)


def unavailable(
    url: RedisUrl, error: Exception, *, fate: str = "", in_doubt: bool = False
) -> BrokerUnavailable:
    """What to raise for an error. Chain it with `RedisUrl.cause`."""
    why, remedy = (url.without_secrets(text) for text in diagnose(error))
    return BrokerUnavailable(url.shown, why, remedy, fate=fate, in_doubt=in_doubt)
