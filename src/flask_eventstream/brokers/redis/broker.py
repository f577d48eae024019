"""The Redis broker: where one machine is not enough. Redis 6.2 or newer, or Valkey.

This is the publishing side, any thread of any process: one script per event appends and publishes
in one step, over a pool of connections. The reading side is listener.py, in a cluster
cluster.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import redis

from flask_eventstream.brokers.broker import Inbox, Listener
from flask_eventstream.brokers.redis.answers import (
    ChannelState,
    LogState,
    RunInfo,
    diagnose,
    make_standing,
    opening_arguments,
)
from flask_eventstream.brokers.redis.cluster import ClusterListener
from flask_eventstream.brokers.redis.listener import RedisListener
from flask_eventstream.brokers.redis.message import END_BODY, encode_body
from flask_eventstream.brokers.redis.pages import LogReader
from flask_eventstream.brokers.redis.scripts import NEEDS_OPENING, OPEN, Keys, publish_script
from flask_eventstream.brokers.redis.servers import Server, Servers
from flask_eventstream.brokers.redis.slots import check_cluster_channel
from flask_eventstream.brokers.redis.url import RedisUrl
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.event import Event
from flask_eventstream.log.entries import Missed, Over, Retention, Standing
from flask_eventstream.log.position import decompose

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

#: What INFO says of limits, and what only CONFIG does.
_LIMITS = ("connected_clients", "maxclients", "maxmemory", "maxmemory_policy")
_CONFIGURED = ("maxclients", "client-output-buffer-limit")

#: What a cluster says of a slot that moves, or moved. Nothing was executed.
_MOVING = (
    redis.exceptions.MovedError,
    redis.exceptions.AskError,
    redis.exceptions.TryAgainError,
)


class RedisBroker:
    """A log in Redis or Valkey. Threads, forks and other machines may share it."""

    is_shared = True

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

    def arrive(self, channels: Sequence[str], after: str | None) -> Standing:
        """How a reader at ``after`` stands to the log. Any thread; one round trip.

        In a cluster, where each channel is a log, a reader of several is told only of their ends.
        """
        self._check(channels)
        if time.monotonic() < self._silent_until_s:
            raise BrokerUnavailable(self.url, "it did not answer a moment ago")
        try:
            if len(channels) == 1 or not self._url.is_cluster:
                return self._ask(channels, after)
            each = dict.fromkeys(channels, after) if after is None else decompose(after, channels)
            return self._all_over(each) if each is not None else Missed()
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

    def limits(self) -> dict[str, str]:
        """What the server allows its clients, as far as it says; in a cluster, one node.

        Raises:
            BrokerUnavailable: It does not answer.
        """
        try:
            client = self._servers.of("sse").client
            info = client.info()
            found = {name: str(info[name]) for name in _LIMITS if name in info}
            for name in _CONFIGURED:
                # Hosted servers refuse it, and so do the rules that we advise.
                with contextlib.suppress(redis.exceptions.ResponseError):
                    for key, value in client.config_get(name).items():
                        found[_text(key)] = _text(value)
        except (redis.RedisError, OSError) as error:
            raise BrokerUnavailable(self.url, *diagnose(error)) from error
        return found

    def close(self) -> None:
        """Close the connections; the next publish opens others."""
        self._servers.close()
        self._quick_servers.close()

    def _check(self, channels: Collection[str]) -> None:
        if self._url.is_cluster:
            for channel in channels:
                check_cluster_channel(channel)

    def _all_over(self, positions: Mapping[str, str | None]) -> Missed | Over:
        each = [self._ask([channel], after) for channel, after in positions.items()]
        return Over() if all(isinstance(one, Over) for one in each) else Missed()

    def _ask(self, channels: Sequence[str], after: str | None) -> Standing:
        client = self._quick_servers.of(channels[0]).client
        with client.pipeline(transaction=True) as pipe:
            pipe.hmget(self._keys.log(channels[0]), LogState.FIELDS)
            for channel in channels:
                pipe.hmget(self._keys.channel(channel), ChannelState.FIELDS)
            log, *answers = pipe.execute()
        states = {
            c: ChannelState.parse(answer) for c, answer in zip(channels, answers, strict=True)
        }
        return make_standing(LogState.parse(log), states, after)

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
            count = str(len(keys))
            answer = server.call("EVALSHA", server.script, count, *keys, bodies[0], *rest)
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
            text, server.script = publish_script(run.run_id, may_outlive=run.keeps_scripts)
            server.client.script_load(text)
        except _MOVING:
            self._servers.refresh()
        except (redis.RedisError, OSError) as error:
            self._servers.refresh()
            raise BrokerUnavailable(self.url, *diagnose(error)) from error


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
