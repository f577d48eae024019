"""The Redis broker: where one machine is not enough. Redis 6.2 or newer, or Valkey.

This is the publishing side, any thread of any process: one script per event, or per batch of them,
appends and publishes in one step (see writer.py), over a pool of connections. The reading side is
listener.py, in a cluster cluster.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from flask_eventstream.brokers.broker import Inbox, Listener
from flask_eventstream.brokers.redis.answers import ChannelState, LogState, make_standing
from flask_eventstream.brokers.redis.cluster import ClusterListener
from flask_eventstream.brokers.redis.diagnosis import parse_info
from flask_eventstream.brokers.redis.listener import RedisListener
from flask_eventstream.brokers.redis.message import (
    END_BODY,
    Unreadable,
    encode_body,
    encode_control,
)
from flask_eventstream.brokers.redis.pages import LogReader
from flask_eventstream.brokers.redis.paging import READ_NEWEST, PageAnswer, make_replay
from flask_eventstream.brokers.redis.reports import Reports
from flask_eventstream.brokers.redis.scripts import Keys
from flask_eventstream.brokers.redis.servers import Line, Servers
from flask_eventstream.brokers.redis.shares import (
    HOME,
    share_command,
    shares_command,
    unshare_command,
)
from flask_eventstream.brokers.redis.slots import check_cluster_channel
from flask_eventstream.brokers.redis.url import RedisUrl
from flask_eventstream.brokers.redis.writer import FAILURES, LogWriter, unavailable
from flask_eventstream.errors import BrokerUnavailable, InvalidChannel
from flask_eventstream.event import Event
from flask_eventstream.log.entries import (
    CONTROL_CHANNEL,
    PAGE,
    PAGE_SIZE,
    Entry,
    Missed,
    Over,
    Retention,
    Standing,
)
from flask_eventstream.log.position import decompose
from flask_eventstream.process import in_forked_child

__all__ = ["RedisBroker"]

_Answer = TypeVar("_Answer")

#: Events, and characters of them, in one step: 2 ms in which the server does nothing else.
_BATCH = 100
_BATCH_CHARACTERS = 256 * 1024

#: Seconds for which a request for a stream may wait to hear whether its channels are ended:
#: opening a stream must not wait for Redis.
_QUICK_S = 0.5

#: Seconds for an answer about a log.
_ANSWER_S = 5.0

#: What INFO says of limits, and what only CONFIG does.
_LIMITS = ("connected_clients", "maxclients", "maxmemory", "maxmemory_policy")
_CONFIGURED = ("maxclients", "client-output-buffer-limit")


class RedisBroker:
    """A log in Redis or Valkey. Threads, forks and other machines may share it."""

    is_shared = True

    def __init__(self, url: RedisUrl, *, retention: Retention | None, timeout_s: float) -> None:
        self.url = url.shown
        self._url = url
        self._keys = Keys(url.prefix, url.is_cluster, url.channel_prefix)
        self._retention = retention
        self._timeout_s = timeout_s
        self._client: Any = None
        self._begin_anew()
        in_forked_child(self._begin_anew)

    def publish(self, channel: str, event: Event) -> str:
        """Append and publish in one step. Any thread; blocks for ``timeout_s`` at the most."""
        self._check([channel])
        (position,) = self._writer.append(channel, [encode_body(event)])
        return event.id or position

    def publish_many(self, channel: str, events: Sequence[Event]) -> list[str]:
        """Append all of them, in few round trips, each for ``timeout_s`` at the most.

        Raises:
            BrokerUnavailable: Says how many are in; the others are not, or it is not known.
        """
        self._check([channel])
        positions: list[str] = []
        try:
            for batch in _batches([encode_body(event) for event in events]):
                positions += self._writer.append(channel, batch)
        except BrokerUnavailable as error:
            if len(events) > 1:
                some = "some of the rest may be" if error.in_doubt else "the rest is not"
                error.fate = f"{len(positions)} of {len(events)} events are published, {some}"
            raise
        return [event.id or position for event, position in zip(events, positions, strict=True)]

    def publish_to(self, channels: Sequence[str], event: Event) -> list[str]:
        """Append it to all of them, in few round trips, each for ``timeout_s`` at the most.

        Raises:
            BrokerUnavailable: Says how many channels have it; the others have not, or it is not
                known.
        """
        self._check(channels)
        body = encode_body(event)
        positions: dict[str, str] = {}
        most = max(1, min(_BATCH, _BATCH_CHARACTERS // len(body)))
        try:
            for start in range(0, len(channels), most):
                self._writer.append_to(channels[start : start + most], body, into=positions)
        except BrokerUnavailable as error:
            if len(channels) > 1:
                some = "some of the rest may have" if error.in_doubt else "the rest have not"
                error.fate = f"{len(positions)} of {len(channels)} channels have the event, {some}"
            raise
        return [event.id or positions[channel] for channel in channels]

    def end(self, channel: str) -> None:
        """Append and publish the channel's end."""
        self._check([channel])
        self._writer.append(channel, [END_BODY], ends=True)

    def control(self, text: str) -> str:
        """Append and publish a control entry."""
        return self._writer.append(CONTROL_CHANNEL, [encode_control(text)])[0]

    def remember(self, name: str, text: str, *, for_s: float) -> None:
        """Keep a text, in a key of its own."""
        self._writer.remember(name, text, for_s=for_s)

    def recall(self, name: str) -> str | None:
        """The text of this name. One round trip."""
        text = self._ask_quickly(
            name, lambda line: line.ask_one("HGET", self._keys.record(name), "text")
        )
        return None if text is None else str(text.decode())

    def share(
        self, owner: str, changed: Mapping[str, str], *, for_s: float, whole: bool = False
    ) -> bool:
        """Take what an owner says. One round trip."""
        owners = self._keys.owners(HOME)
        command = share_command(owners, owner, changed, for_s=for_s, whole=whole)
        return bool(self._ask_quickly(HOME, lambda line: line.ask_one(*command)))

    def unshare(self, owner: str) -> None:
        """Take it away. One round trip."""
        command = unshare_command(self._keys.owners(HOME), owner)
        self._ask_quickly(HOME, lambda line: line.ask_one(*command))

    def shares(self, channel: str) -> Sequence[str]:
        """What all owners say of a channel. One round trip."""
        command = shares_command(self._keys.owners(HOME), channel)
        said = self._ask_quickly(HOME, lambda line: line.ask_one(*command))
        return [text.decode() for text in said]

    def newest(self, channel: str, count: int) -> Sequence[Entry]:
        """The last entries of a channel. One round trip."""
        self._check([channel])
        keys = (self._keys.log(channel), *self._keys.of(channel)[:2])
        command = ("EVAL", READ_NEWEST, 3, *keys, min(count, PAGE), PAGE_SIZE)
        said = self._ask_quickly(channel, lambda line: line.ask_one(*command))
        answer = PageAnswer.parse(said, [channel])
        if answer.state is None:
            return ()
        return make_replay(answer, answer.state, {channel: 0}, skipped=_skip).entries

    def _ask_quickly(self, name: str, ask: Callable[[Line], _Answer]) -> _Answer:
        """What the server answers that has a channel, or another name."""
        until_s = time.monotonic() + _QUICK_S
        try:
            with self._quick_servers.of(name, until_s).line(until_s) as line:
                return ask(line)
        except FAILURES as error:
            self._quick_servers.refresh()
            raise unavailable(self._url, error) from self._url.cause(error)

    def arrive(self, channels: Sequence[str], after: str | None) -> Standing:
        """How a reader at ``after`` stands to the log. Any thread; one round trip.

        In a cluster, where each channel is a log, a reader of several is told only of their ends.
        """
        self._check(channels)
        until_s = time.monotonic() + _QUICK_S
        try:
            if len(channels) == 1 or not self._url.is_cluster:
                return self._ask(channels, after, until_s)
            each = dict.fromkeys(channels, after) if after is None else decompose(after, channels)
            return self._all_over(each, until_s) if each is not None else Missed()
        except FAILURES as error:
            self._quick_servers.refresh()
            raise unavailable(self._url, error) from self._url.cause(error)

    def listen(self, loop: asyncio.AbstractEventLoop, inbox: Inbox) -> Listener:
        """Begin to listen. Call on ``loop``."""
        if self._url.is_cluster:
            return ClusterListener(
                loop, inbox, self._url, keys=self._keys, retention=self._retention
            )
        client = self._url.async_client(_ANSWER_S)
        reports = Reports(self.url)
        reader = LogReader(client, self._keys, reports=reports, retention=self._retention)
        return RedisListener(loop, inbox, reader, reports=reports)

    def limits(self) -> dict[str, str]:
        """What the server allows its clients, as far as it says; in a cluster, one node.

        Raises:
            BrokerUnavailable: It does not answer.
        """
        until_s = time.monotonic() + _ANSWER_S
        try:
            with self._servers.of("sse", until_s).line(until_s) as line:
                info = parse_info(line.ask_one("INFO"))
                configured = line.ask(*(("CONFIG", "GET", name) for name in _CONFIGURED))
        except FAILURES as error:
            raise unavailable(self._url, error) from self._url.cause(error)
        found = {name: info[name] for name in _LIMITS if name in info}
        for answer in configured:
            # Hosted servers refuse it, and so do the rules that we advise.
            if not isinstance(answer, Exception):
                texts = [text.decode() for text in answer]
                found.update(zip(texts[::2], texts[1::2], strict=True))
        return found

    def client(self) -> Any:
        """redis-py's client of the same server, for an application's own commands. Any thread.

        It is the same one each time, and has redis-py's defaults: it may wait without end. In a
        cluster the first call connects.
        """
        if self._client is None:
            self._client = self._url.own_client()
        return self._client

    def close(self) -> None:
        """Close the connections; the next publish opens others."""
        client, self._client = self._client, None
        if client is not None:
            client.close()
        self._servers.close()
        self._quick_servers.close()

    def _begin_anew(self) -> None:
        """At the beginning, and in a forked child, which has connections and locks of its own."""
        self._servers = Servers(self._url)
        # Others, because half a second without an answer is no reason to publish no more.
        self._quick_servers = Servers(self._url)
        self._writer = LogWriter(
            self._url,
            self._keys,
            self._servers,
            retention=self._retention,
            timeout_s=self._timeout_s,
        )

    def _check(self, channels: Collection[str]) -> None:
        for channel in channels:
            if self._keys.is_taken(channel):
                why = f"begins with {self._keys.prefix}__, as the log's own do"
                raise InvalidChannel(channel, why)
        if self._url.is_cluster:
            for channel in channels:
                check_cluster_channel(channel)

    def _all_over(self, positions: Mapping[str, str | None], until_s: float) -> Missed | Over:
        each = [self._ask([channel], after, until_s) for channel, after in positions.items()]
        return Over() if all(isinstance(one, Over) for one in each) else Missed()

    def _ask(self, channels: Sequence[str], after: str | None, until_s: float) -> Standing:
        questions: list[tuple[str, ...]] = [
            ("HMGET", self._keys.log(channels[0]), *LogState.FIELDS)
        ]
        questions += [("HMGET", self._keys.channel(c), *ChannelState.FIELDS) for c in channels]
        with self._quick_servers.of(channels[0], until_s).line(until_s) as line:
            answers = line.ask(("MULTI",), *questions, ("EXEC",))
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
        log, *each = answers[-1]
        states = {c: ChannelState.parse(one) for c, one in zip(channels, each, strict=True)}
        return make_standing(LogState.parse(log), states, after)


def _skip(channel: str, why: Unreadable) -> None:
    """Who reads this channel live hears of it."""


def _batches(bodies: Sequence[str]) -> Iterator[Sequence[str]]:
    """Pieces of what is to be appended, none of which holds the server up."""
    start = size = 0
    for end, body in enumerate(bodies):
        if end > start and (end - start == _BATCH or size + len(body) > _BATCH_CHARACTERS):
            yield bodies[start:end]
            start, size = end, 0
        size += len(body)
    if bodies:
        yield bodies[start:]
