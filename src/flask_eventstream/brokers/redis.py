"""The Redis broker: where one machine is not enough. Redis 6.2 or newer, or Valkey.

This is the publishing side, any thread of any process: one script per event appends and publishes
in one step, over a pool of connections. The reading side is redis_feed.py.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from flask_eventstream.brokers.broker import Inbox
from flask_eventstream.brokers.message import END_BODY, encode_body
from flask_eventstream.brokers.redis_feed import RedisListener
from flask_eventstream.brokers.redis_log import (
    ChannelState,
    LogState,
    RunInfo,
    diagnose,
    opening_arguments,
)
from flask_eventstream.brokers.redis_script import NEEDS_OPENING, OPEN, Keys, publish_script
from flask_eventstream.errors import BrokerUnavailable, InvalidConfig
from flask_eventstream.event import Event
from flask_eventstream.log import Retention
from flask_eventstream.position import Position

__all__ = ["RedisBroker", "RedisUrl"]

#: Each try either appends, or mends what kept it from appending: a script that the server lost, a
#: log that must be opened. A third failure is not one of those.
_TRIES = 4

#: Events in one round trip.
_BATCH = 500

#: Seconds for which a request for a stream may wait to hear whether its channels are ended, and
#: for which nobody is asked again after that failed: opening a stream must not wait for Redis.
_QUICK_S = 0.5


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A broker's URL, taken apart."""

    url: str
    """As redis-py takes it."""
    prefix: str
    shown: str
    """Without the password."""

    @classmethod
    def parse(cls, url: str, *, key: str) -> RedisUrl:
        """Take ``?prefix=`` out, and leave the rest to redis-py.

        Raises:
            InvalidConfig: It is no URL of a Redis server.
        """
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query))
        prefix = query.pop("prefix", "sse:")
        if "{" in prefix or "}" in prefix:
            raise InvalidConfig(
                [f"{key} has the prefix {prefix!r}: braces mean something to Redis"]
            )
        plain = urlunsplit(parts._replace(query=urlencode(query)))
        try:
            redis.ConnectionPool.from_url(plain)
        except (ValueError, TypeError) as error:
            raise InvalidConfig([f"{key} is no Redis URL: {error}"]) from error
        host = parts.netloc.rpartition("@")[2]
        return cls(plain, prefix, urlunsplit(parts._replace(netloc=host, query="")))


class RedisBroker:
    """A log in a Redis or Valkey server. Threads, forks and other machines may share it."""

    def __init__(self, url: RedisUrl, *, retention: Retention | None, timeout_s: float) -> None:
        self.url = url.shown
        self._url = url
        self._keys = Keys(url.prefix)
        self._retention = retention
        self._timeout_s = timeout_s
        self._client = self._make_client(timeout_s / 2)
        self._quick_client = self._make_client(_QUICK_S / 2)
        self._silent_until_s = 0.0
        self._sha = "unknown"

    def publish(self, channel: str, event: Event) -> str:
        """Append and publish in one step. Any thread; blocks for ``timeout_s`` at the most."""
        position = self._append(channel, encode_body(event), "0")
        return event.id or position

    def publish_many(self, channel: str, events: Sequence[Event]) -> list[str]:
        """Append all of them, in few round trips. If the server fails on the way, some are in."""
        positions = []
        # The first goes alone: it mends whatever keeps the script from running.
        if events:
            positions.append(self._append(channel, encode_body(events[0]), "0"))
        for start in range(1, len(events), _BATCH):
            batch = [encode_body(event) for event in events[start : start + _BATCH]]
            positions += self._append_batch(channel, batch)
        return [event.id or position for event, position in zip(events, positions, strict=True)]

    def end(self, channel: str) -> None:
        """Append and publish the channel's end."""
        self._append(channel, END_BODY, "1")

    def has_ended(self, channels: Collection[str], after: str | None) -> bool:
        """True where all these channels are ended and a reader at ``after`` has seen it all."""
        if time.monotonic() < self._silent_until_s:
            raise BrokerUnavailable(self.url, "it did not answer a moment ago")
        try:
            with self._quick_client.pipeline(transaction=True) as pipe:
                pipe.hmget(self._keys.log(), LogState.FIELDS)
                for channel in channels:
                    pipe.hmget(self._keys.channel(channel), ChannelState.FIELDS)
                log, *answers = pipe.execute()
        except (redis.RedisError, OSError) as error:
            self._silent_until_s = time.monotonic() + _QUICK_S
            raise BrokerUnavailable(self.url, *diagnose(error)) from error
        state = LogState.parse(log)
        ends = [ChannelState.parse(answer).ended for answer in answers]
        if state is None or not all(ends):
            return False
        if after is None:
            return True
        position = Position.parse(after)
        return position is not None and (state.sequence_of(position) or 0) >= max(ends)

    def listen(self, loop: asyncio.AbstractEventLoop, inbox: Inbox) -> RedisListener:
        """Begin to listen. Call on ``loop``."""
        return RedisListener(
            loop,
            inbox,
            url=self._url.url,
            keys=self._keys,
            shown=self.url,
            retention=self._retention,
        )

    def close(self) -> None:
        """Close the connections; the next publish opens others."""
        self._client.close()
        self._quick_client.close()

    def _append_batch(self, channel: str, bodies: Sequence[str]) -> list[str]:
        keys = self._keys.of(channel)
        try:
            with self._client.pipeline(transaction=False) as pipe:
                for body in bodies:
                    arguments = (*keys, channel, body, "0")
                    pipe.execute_command("EVALSHA", self._sha, len(keys), *arguments)
                return [position.decode() for position in pipe.execute()]
        except (redis.RedisError, OSError) as error:
            raise BrokerUnavailable(self.url, *diagnose(error)) from error

    def _append(self, channel: str, body: str, ends: str) -> str:
        keys = self._keys.of(channel)
        for _ in range(_TRIES):
            try:
                position: bytes = self._client.execute_command(
                    "EVALSHA", self._sha, len(keys), *keys, channel, body, ends
                )
            except redis.exceptions.NoScriptError:
                self._load()  # a server that was started anew, or SCRIPT FLUSH
            except redis.exceptions.ResponseError as error:
                if not str(error).startswith(NEEDS_OPENING):
                    raise BrokerUnavailable(self.url, *diagnose(error)) from error
                self._load()  # FLUSHALL, or nobody published since the server started
            except (redis.RedisError, OSError) as error:
                raise BrokerUnavailable(self.url, *diagnose(error)) from error
            else:
                return position.decode()
        raise BrokerUnavailable(self.url, f"its log could not be opened in {_TRIES} tries")

    def _load(self) -> None:
        """Open the log for this run of the server, and give it the script that publishes."""
        try:
            run = RunInfo.from_info(self._client.info(), self.url)
            arguments = opening_arguments(
                run, epoch=secrets.token_hex(4), retention=self._retention
            )
            self._client.eval(OPEN, 1, self._keys.log(), *arguments)
            text, self._sha = publish_script(run.run_id)
            self._client.script_load(text)
        except (redis.RedisError, OSError) as error:
            raise BrokerUnavailable(self.url, *diagnose(error)) from error

    def _make_client(self, timeout_s: float) -> Any:
        # No retries: an event whose answer was lost may have been published, and sending it
        # again would double it. The caller is told, and decides.
        return redis.Redis.from_url(
            self._url.url,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
        )
