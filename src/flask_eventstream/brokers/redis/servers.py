"""The servers that a publisher talks to: one, one that Sentinels name, or a cluster's nodes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import redis

from flask_eventstream.brokers.breaker import Breaker, Leave
from flask_eventstream.brokers.redis.diagnosis import count_online, parse_info
from flask_eventstream.brokers.redis.pool import Pool, left_s
from flask_eventstream.brokers.redis.scripts import Script
from flask_eventstream.brokers.redis.slots import Slots
from flask_eventstream.brokers.redis.url import Address, RedisUrl
from flask_eventstream.process import Lock

__all__ = ["Line", "Server", "Servers", "Silent"]

#: Seconds between two counts of a server's replicas.
_COUNT_EVERY_S = 1.0

#: Seconds for which nobody waits for a server that did not answer, and for which who tries
#: again then waits for it. One thread of a site may so be held a fifth of the time.
_REST_S = 2.0
_TRY_S = 0.5

#: What tells that the server is silent. A refused connection costs nobody any time.
_SILENCE = (redis.exceptions.TimeoutError, TimeoutError)


_T = TypeVar("_T")


class Silent(redis.exceptions.ConnectionError):
    """Nobody was asked, because there was no answer a moment ago."""


class Line:
    """A connection to a server while one caller has it, and when that must be done."""

    __slots__ = ("_connection", "_until_s", "broken", "silent")

    def __init__(self, connection: Any, until_s: float) -> None:
        self._connection = connection
        self._until_s = until_s
        self.broken = False
        """True where an answer is missing."""
        self.silent = False
        """True where somebody waited for it in vain."""

    @property
    def left_s(self) -> float:
        """The seconds that are left.

        Raises:
            redis.exceptions.TimeoutError: None.
        """
        return left_s(self._until_s)

    def ask(self, *commands: Sequence[Any]) -> list[Any]:
        """The answers to some commands, of which errors are some; see `Pool.exchange`."""
        try:
            return Pool.exchange(self._connection, commands, self._until_s)
        except BaseException as error:
            self.broken = True
            self.silent = isinstance(error, _SILENCE)
            raise

    def ask_one(self, *command: Any) -> Any:
        """The answer to one command.

        Raises:
            redis.RedisError, OSError: There is none, or it is an error.
        """
        (answer,) = self.ask(command)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Server:
    """One server: its connections, the script that it was given, and whether it answers."""

    def __init__(self, client: Any) -> None:
        self._pool = Pool(client)
        self._breaker = Breaker(rest_s=_REST_S, clock=time.monotonic)
        self.script = Script()
        self._online = 0
        self._counted_s = float("-inf")

    @contextmanager
    def line(self, until_s: float) -> Iterator[Line]:
        """A connection for one caller. Any thread; blocks until the deadline at the most.

        Raises:
            Silent: It did not answer a moment ago. Nothing was sent.
            redis.RedisError, OSError: It can't be reached, or from what the caller asks.
        """
        connection = self._connect(until_s)
        line = Line(connection, until_s)
        try:
            yield line
        finally:
            if line.silent:
                self._breaker.silent()
            if line.broken:
                # Those that are idle are probably broken as well.
                self._pool.clear()
            else:
                self._pool.give_back(connection)

    def _connect(self, until_s: float) -> Any:
        leave = self._breaker.leave()
        if leave is Leave.REST:
            raise Silent("it did not answer a moment ago")
        began_s = time.monotonic()
        try:
            if leave is Leave.ASK:
                return self._pool.take(until_s)
            until_s = min(until_s, time.monotonic() + _TRY_S)
            connection = self._pool.take(until_s)
            # Where its user may not say that, an error is an answer, too.
            Pool.exchange(connection, [("PING",)], until_s)
        except (redis.RedisError, OSError) as error:
            # A name service that does not answer is as bad.
            slow = time.monotonic() - began_s > _TRY_S
            silent = slow or isinstance(error, _SILENCE)
            (self._breaker.silent if silent else self._breaker.answered)()
            self._pool.clear()
            raise
        except BaseException:
            self._breaker.silent()  # nobody knows: somebody else may try, a while later
            raise
        self._breaker.answered()
        return connection

    def online_replicas(self, line: Line, *, now: bool = False) -> int:
        """How many replicas it has that keep up; as of a second ago at the most.

        Waiting for one that is not there would hold every publish for as long as it may wait.
        """
        if now or time.monotonic() > self._counted_s + _COUNT_EVERY_S:
            self._online = count_online(parse_info(line.ask_one("INFO", "replication")))
            self._counted_s = time.monotonic()
        return self._online

    def close(self) -> None:
        """Close the connections that nobody uses."""
        self._pool.clear()


class Servers:
    """Finds the server of a channel. Any thread may use it; a forked child makes one of its own."""

    def __init__(self, url: RedisUrl) -> None:
        self._url = url
        self._lock = Lock()
        self._servers: dict[Address | None, Server] = {}
        self._sentinels: dict[Address, Server] = {}
        self._slots: Slots | None = None
        self._primary: Address | None = None

    def of(self, channel: str, until_s: float) -> Server:
        """The server that has a channel. Blocks until the deadline at the most; publishes nothing.

        Raises:
            redis.RedisError: No Sentinel, or no node of the cluster, says which it is.
        """
        if not self._url.addresses:
            return self._at(None)
        if self._url.service:
            if self._primary is None:
                self._primary = self._ask_sentinels(until_s)
            return self._at(self._primary)
        slots = self._slots
        if slots is None:
            slots = self._slots = self._ask_nodes(until_s)
        address = slots.home_of(channel)
        if address is None:
            self.refresh()
            raise redis.exceptions.ClusterDownError("no node has the slot of this channel")
        return self._at(address)

    def refresh(self) -> None:
        """Which is the primary, and who has which slots, must be asked again."""
        self._slots = None
        self._primary = None

    def close(self) -> None:
        """Close the connections; others are opened when they are needed."""
        with self._lock:
            servers = [*self._servers.values(), *self._sentinels.values()]
            self._servers, self._sentinels = {}, {}
        for server in servers:
            server.close()

    def _at(self, address: Address | None) -> Server:
        server = self._servers.get(address)
        if server is None:
            # A time-out of its own is set for each use.
            made = Server(self._url.client(_TRY_S, address))
            with self._lock:
                server = self._servers.setdefault(address, made)
        return server

    def _sentinel_at(self, address: Address) -> Server:
        server = self._sentinels.get(address)
        if server is None:
            made = Server(self._url.sentinel_client(_TRY_S, address))
            with self._lock:
                server = self._sentinels.setdefault(address, made)
        return server

    def _ask_sentinels(self, until_s: float) -> Address:
        def ask(line: Line, _: Address) -> Address | None:
            for answer in line.ask_one("SENTINEL", "MASTERS"):
                said = dict(zip(answer[::2], answer[1::2], strict=True))
                down = {b"s_down", b"o_down"} & set(said[b"flags"].split(b","))
                if said[b"name"].decode() == self._url.service and not down:
                    return said[b"ip"].decode(), int(said[b"port"])
            return None

        places = {address: self._sentinel_at(address) for address in self._url.addresses}
        nobody = f"no Sentinel names the primary of the service {self._url.service!r}"
        return _first_answer(places, ask, until_s, nobody)

    def _ask_nodes(self, until_s: float) -> Slots:
        def ask(line: Line, address: Address) -> Slots | None:
            return Slots.parse(line.ask_one("CLUSTER", "SLOTS"), address[0])

        known = {address for address in self._servers if address is not None}
        places = {address: self._at(address) for address in sorted({*known, *self._url.addresses})}
        return _first_answer(places, ask, until_s, "no node of the cluster answers")


def _first_answer(
    places: Mapping[Address, Server],
    ask: Callable[[Line, Address], _T | None],
    until_s: float,
    nobody: str,
) -> _T:
    """Ask one after another until one of them knows; each may take its share of the time.

    Raises:
        redis.RedisError, OSError: None does.
    """
    problem: Exception = redis.exceptions.ConnectionError(nobody)
    anybody = False
    for asked, (address, server) in enumerate(places.items()):
        share_s = left_s(until_s) / (len(places) - asked)
        try:
            with server.line(time.monotonic() + share_s) as line:
                found = ask(line, address)
        except (redis.RedisError, OSError) as error:
            problem = problem if anybody else error
        else:
            if found is not None:
                return found
            problem, anybody = redis.exceptions.ConnectionError(nobody), True
    raise problem
