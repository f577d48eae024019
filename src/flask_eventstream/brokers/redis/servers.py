"""The servers that a publisher talks to: one, or a cluster's nodes. Any thread may use them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import redis

from flask_eventstream.brokers.redis.slots import Slots
from flask_eventstream.brokers.redis.url import Address, RedisUrl
from flask_eventstream.process import Lock

__all__ = ["Server", "Servers"]


#: Seconds between two counts of a server's replicas.
_COUNT_EVERY_S = 1.0


@dataclass(slots=True)
class Server:
    """One server: its client, and the script that it was given."""

    client: Any
    script: str = "unknown"
    """The SHA-1 of the publishing script; made for one run of one server."""
    _online: int = 0
    _counted_s: float = float("-inf")

    def call(self, *command: str) -> Any:
        """Send one command, and give its answer. Any thread; blocks for the socket's patience.

        What `Redis.execute_command` does beside that (retries, which we must not make, callbacks,
        metrics) takes a quarter of a publish: 107 µs with it, 80 without, a bare PUBLISH 57.

        Raises:
            redis.RedisError: As `Redis.execute_command`.
        """
        pool = self.client.connection_pool
        connection = pool.get_connection()
        try:
            connection.send_command(*command)
            return connection.read_response()
        finally:
            pool.release(connection)

    def online_replicas(self, *, now: bool = False) -> int:
        """How many replicas it has that keep up; as of a second ago at the most.

        Waiting for one that is not there would hold every publish for as long as it may wait.
        """
        if now or time.monotonic() > self._counted_s + _COUNT_EVERY_S:
            replication = self.client.info("replication")
            self._online = sum(
                isinstance(replica, dict) and replica.get("state") == "online"
                for replica in replication.values()
            )
            self._counted_s = time.monotonic()
        return self._online


class Servers:
    """Finds the server of a channel. Makes clients when they are needed."""

    def __init__(self, url: RedisUrl, *, timeout_s: float) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._lock = Lock()
        self._servers: dict[Address | None, Server] = {}
        self._slots: Slots | None = None

    def of(self, channel: str) -> Server:
        """The server that has a channel.

        Raises:
            redis.RedisError: No node of the cluster answers, or none has the channel.
        """
        if not self._url.is_cluster:
            return self._at(None)
        slots = self._slots
        if slots is None:
            slots = self._slots = self._ask_slots()
        address = slots.home_of(channel)
        if address is None:
            self.refresh()
            raise redis.exceptions.ClusterDownError("no node has the slot of this channel")
        return self._at(address)

    def refresh(self) -> None:
        """Who has which slots must be asked again."""
        self._slots = None

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            servers, self._servers = self._servers, {}
        for server in servers.values():
            server.client.close()

    def _at(self, address: Address | None) -> Server:
        with self._lock:
            server = self._servers.get(address)
            if server is None:
                client = self._url.client(self._timeout_s, address)
                server = self._servers[address] = Server(client)
        return server

    def _ask_slots(self) -> Slots:
        problem: Exception = redis.exceptions.ClusterDownError("no node of the cluster answers")
        known = {address for address in self._servers if address is not None}
        for address in sorted(known | set(self._url.addresses)):
            try:
                answer = self._at(address).client.execute_command("CLUSTER SLOTS")
            except (redis.RedisError, OSError) as error:
                problem = error
            else:
                return Slots.parse(answer, address[0])
        raise problem
