"""The Redis broker: where one machine is not enough. Redis 6.2 or newer, or Valkey.

This is the publishing side, any thread of any process: one script per event appends and publishes
in one step, over a pool of connections. The reading side is redis_feed.py, in a cluster
redis_cluster.py.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Collection, Mapping, Sequence

import redis

from flask_eventstream.brokers.broker import Inbox, Listener
from flask_eventstream.brokers.message import END_BODY, encode_body
from flask_eventstream.brokers.redis_cluster import ClusterListener
from flask_eventstream.brokers.redis_feed import RedisListener
from flask_eventstream.brokers.redis_log import (
    ChannelState,
    LogState,
    RunInfo,
    diagnose,
    opening_arguments,
)
from flask_eventstream.brokers.redis_reader import LogReader
from flask_eventstream.brokers.redis_script import NEEDS_OPENING, OPEN, Keys, publish_script
from flask_eventstream.brokers.redis_servers import Server, Servers
from flask_eventstream.brokers.redis_slots import check_cluster_channel
from flask_eventstream.brokers.redis_url import RedisUrl
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.event import Event
from flask_eventstream.log import Retention
from flask_eventstream.position import Position, decompose

__all__ = ["RedisBroker"]

#: Seconds between two tries while a cluster moves a slot.
_PAUSE_S = 0.05

#: Events in one round trip.
_BATCH = 500

#: Seconds for which a request for a stream may wait to hear whether its channels are ended, and
#: for which nobody is asked again after that failed: opening a stream must not wait for Redis.
_QUICK_S = 0.5

#: Seconds for an answer about a log.
_ANSWER_S = 5.0

#: What a cluster says of a slot that moves, or moved. Nothing was executed.
_MOVING = (
    redis.exceptions.MovedError,
    redis.exceptions.AskError,
    redis.exceptions.TryAgainError,
)


class RedisBroker:
    """A log in Redis or Valkey. Threads, forks and other machines may share it."""

    def __init__(self, url: RedisUrl, *, retention: Retention | None, timeout_s: float) -> None:
        self.url = url.shown
        self._url = url
        self._keys = Keys(url.prefix, is_cluster=url.is_cluster)
        self._retention = retention
        self._timeout_s = timeout_s
        self._servers = Servers(url, timeout_s=timeout_s / 2)
        self._quick_servers = Servers(url, timeout_s=_QUICK_S / 2)
        self._silent_until_s = 0.0

    def publish(self, channel: str, event: Event) -> str:
        """Append and publish in one step. Any thread; blocks for ``timeout_s`` at the most."""
        position = self._append(channel, [encode_body(event)])[0]
        return event.id or position

    def publish_many(self, channel: str, events: Sequence[Event]) -> list[str]:
        """Append all of them, in few round trips. If the server fails on the way, some are in."""
        positions: list[str] = []
        bodies = [encode_body(event) for event in events]
        # The first goes alone: it mends whatever keeps the script from running.
        for batch in (bodies[:1], *(bodies[i : i + _BATCH] for i in range(1, len(bodies), _BATCH))):
            positions += self._append(channel, batch)
        return [event.id or position for event, position in zip(events, positions, strict=True)]

    def end(self, channel: str) -> None:
        """Append and publish the channel's end."""
        self._append(channel, [END_BODY], ends=True)

    def has_ended(self, channels: Collection[str], after: str | None) -> bool:
        """True where all these channels are ended and a reader at ``after`` has seen it all."""
        self._check(channels)
        if time.monotonic() < self._silent_until_s:
            raise BrokerUnavailable(self.url, "it did not answer a moment ago")
        try:
            if not self._url.is_cluster:
                return self._ask_ended(tuple(channels), after)
            each = self._positions_in_cluster(channels, after)
            return each is not None and all(self._ask_ended((c,), each[c]) for c in channels)
        except (redis.RedisError, OSError) as error:
            self._silent_until_s = time.monotonic() + _QUICK_S
            self._quick_servers.refresh()
            raise BrokerUnavailable(self.url, *diagnose(error)) from error

    def listen(self, loop: asyncio.AbstractEventLoop, inbox: Inbox) -> Listener:
        """Begin to listen. Call on ``loop``."""
        if self._url.is_cluster:
            return ClusterListener(
                loop, inbox, self._url, keys=self._keys, retention=self._retention
            )
        client = self._url.async_client(_ANSWER_S)
        reader = LogReader(client, self._keys, shown=self.url, retention=self._retention)
        return RedisListener(loop, inbox, reader, shown=self.url)

    def close(self) -> None:
        """Close the connections; the next publish opens others."""
        self._servers.close()
        self._quick_servers.close()

    def _check(self, channels: Collection[str]) -> None:
        if self._url.is_cluster:
            for channel in channels:
                check_cluster_channel(channel)

    def _positions_in_cluster(
        self, channels: Collection[str], after: str | None
    ) -> Mapping[str, str | None] | None:
        """Where a reader is in the log of each channel; ``None`` where its id does not say."""
        if after is None or len(channels) == 1:
            return dict.fromkeys(channels, after)
        return decompose(after, channels)

    def _ask_ended(self, channels: Sequence[str], after: str | None) -> bool:
        client = self._quick_servers.of(channels[0]).client
        with client.pipeline(transaction=True) as pipe:
            pipe.hmget(self._keys.log(channels[0]), LogState.FIELDS)
            for channel in channels:
                pipe.hmget(self._keys.channel(channel), ChannelState.FIELDS)
            log, *answers = pipe.execute()
        state = LogState.parse(log)
        ends = [ChannelState.parse(answer).ended for answer in answers]
        if state is None or not all(ends):
            return False
        if after is None:
            return True
        position = Position.parse(after)
        return position is not None and (state.sequence_of(position) or 0) >= max(ends)

    # ---- appending

    def _append(self, channel: str, bodies: Sequence[str], *, ends: bool = False) -> list[str]:
        """Append to a channel; mends what keeps the script from running, and tries again."""
        self._check([channel])
        give_up_s = time.monotonic() + self._timeout_s
        tries = 0
        while True:
            tries += 1
            try:
                server = self._servers.of(channel)
                return self._send(server, channel, bodies, ends=ends)
            except redis.exceptions.NoScriptError as error:
                problem: Exception = error
                self._load(server, channel)  # a server that was started anew, or SCRIPT FLUSH
            except _MOVING as error:
                problem = error
                self._servers.refresh()
                time.sleep(_PAUSE_S)
            except redis.exceptions.ResponseError as error:
                problem = error
                if not str(error).startswith(NEEDS_OPENING):
                    raise BrokerUnavailable(self.url, *diagnose(error)) from error
                self._load(server, channel)  # FLUSHALL, or a channel's first event in a cluster
            except (redis.RedisError, OSError) as error:
                # It may have been executed, so it is not sent again. The caller decides.
                self._servers.refresh()
                raise BrokerUnavailable(self.url, *diagnose(error)) from error
            if time.monotonic() > give_up_s:
                raise BrokerUnavailable(self.url, *diagnose(problem)) from problem

    def _send(
        self, server: Server, channel: str, bodies: Sequence[str], *, ends: bool
    ) -> list[str]:
        keys = self._keys.of(channel)
        verb = "SPUBLISH" if self._url.is_cluster else "PUBLISH"
        rest = (channel, "1" if ends else "0", verb)
        replicas = min(self._url.replicas, server.online_replicas()) if self._url.replicas else 0
        if len(bodies) == 1 and not replicas:
            answer = server.client.execute_command(
                "EVALSHA", server.script, len(keys), *keys, bodies[0], *rest
            )
            return [answer.decode()]
        with server.client.pipeline(transaction=False) as pipe:
            for body in bodies:
                pipe.execute_command("EVALSHA", server.script, len(keys), *keys, body, *rest)
            if replicas:
                # It must answer before the socket's own patience, half of the time, is at its end.
                pipe.execute_command("WAIT", replicas, int(self._timeout_s * 400))
            answers = pipe.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        if replicas:
            self._check_confirmed(server, answers.pop())
        return [answer.decode() for answer in answers]

    def _check_confirmed(self, server: Server, confirmed: int) -> None:
        """Refuse what a failover would lose, as long as there is a replica that could keep it."""
        if confirmed < self._url.replicas:
            wanted = min(self._url.replicas, server.online_replicas(now=True))
            if confirmed < wanted:
                why = f"{confirmed} of {wanted} replicas confirmed the event; it may still arrive"
                raise BrokerUnavailable(self.url, why)

    def _load(self, server: Server, channel: str) -> None:
        """Open the log for this run of the server, and give it the script that publishes."""
        try:
            run = RunInfo.from_info(server.client.info(), self.url)
            arguments = opening_arguments(
                run,
                epoch=secrets.token_hex(4),
                retention=self._retention,
                is_cluster=self._url.is_cluster,
            )
            server.client.eval(OPEN, 1, self._keys.log(channel), *arguments)
            text, server.script = publish_script(run.run_id)
            server.client.script_load(text)
        except _MOVING:
            self._servers.refresh()
        except (redis.RedisError, OSError) as error:
            self._servers.refresh()
            raise BrokerUnavailable(self.url, *diagnose(error)) from error
