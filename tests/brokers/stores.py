"""The logs that the contract's tests run against: one class per broker.

A new broker joins by a class here and its name in `STORES`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from flask_eventstream.brokers import Broker, broker_from_url
from flask_eventstream.brokers.memory import MemoryBroker
from flask_eventstream.brokers.sqlite.broker import SqliteBroker
from flask_eventstream.brokers.sqlite.log import LogFile
from flask_eventstream.log.entries import Retention
from harness.redis_server import RedisServer, run_redis

__all__ = ["STORES", "Clock", "ClockedSqliteBroker", "MemoryStore", "SqliteStore", "Store"]


class Clock:
    """Seconds since 1970 that stand still until a test moves them."""

    def __init__(self) -> None:
        self.now_s = time.time()

    def __call__(self) -> float:
        return self.now_s

    def advance(self, seconds: float) -> None:
        self.now_s += seconds


class Store(Protocol):
    """One log, empty at first."""

    clock: Clock
    """The time by which the log's events age."""

    def open(self, retention: Retention | None = None) -> Broker:
        """A broker of this log: as far as the broker allows, another connection each time."""

    def open_other(self) -> Broker:
        """A broker of another log of the same kind."""

    def close(self) -> None:
        """Close every broker that was opened."""


class MemoryStore:
    """The memory broker. Its log is the object, so that each opening gives the same one."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self._broker: MemoryBroker | None = None

    def open(self, retention: Retention | None = None) -> Broker:
        if self._broker is None:
            self._broker = MemoryBroker("memory://", retention=retention, clock=self.clock)
        return self._broker

    def open_other(self) -> Broker:
        return MemoryBroker("memory://", retention=None, clock=self.clock)

    def close(self) -> None:
        if self._broker is not None:
            self._broker.close()


class ClockedSqliteBroker(SqliteBroker):
    """The SQLite broker by a test's clock."""

    def __init__(self, path: Path, retention: Retention | None, clock: Callable[[], float]) -> None:
        super().__init__(path, retention=retention, timeout_s=5)
        self._clock = clock

    def open_log(self, *, busy_s: float) -> LogFile:
        return LogFile(self.path, retention=self._retention, busy_s=busy_s, clock=self._clock)


class SqliteStore:
    """A file in a folder of the test's own."""

    def __init__(self, folder: Path) -> None:
        self.clock = Clock()
        self._folder = folder
        self._opened: list[SqliteBroker] = []

    def open(self, retention: Retention | None = None) -> Broker:
        return self._open("events.db", retention)

    def open_other(self) -> Broker:
        return self._open("other.db", None)

    def close(self) -> None:
        for broker in self._opened:
            broker.close()

    def _open(self, name: str, retention: Retention | None) -> Broker:
        broker = ClockedSqliteBroker(self._folder / name, retention, self.clock)
        self._opened.append(broker)
        return broker


class RedisClock(Clock):
    """Redis asks its own system for the time, so it is the log that moves: into the past."""

    def __init__(self, server: RedisServer) -> None:
        super().__init__()
        self._server = server

    def advance(self, seconds: float) -> None:
        moved_ms = int(seconds * 1000)
        with self._server.admin as client:
            for key in client.scan_iter():
                rows = client.xrange(key) if client.type(key) == "stream" else []
                left_ms = client.pttl(key)
                if left_ms > 0 and moved_ms > 0 and left_ms <= moved_ms:
                    client.delete(key)
                elif rows:
                    client.delete(key)
                    for row_id, fields in rows:
                        client.xadd(key, {**fields, "a": int(fields["a"]) - moved_ms}, id=row_id)
                if left_ms > 0:
                    client.pexpire(key, max(1, left_ms - moved_ms))


class RedisStore:
    """A server of the test's own."""

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        self._server = self._stack.enter_context(run_redis())
        self.clock: Clock = RedisClock(self._server)

    def open(self, retention: Retention | None = None) -> Broker:
        return self._open(self._server.url, retention)

    def open_other(self) -> Broker:
        return self._open(self._server.url + "?prefix=other:", None)

    def close(self) -> None:
        self._stack.close()

    def _open(self, url: str, retention: Retention | None) -> Broker:
        broker = broker_from_url(url, retention=retention, timeout_s=5)
        self._stack.callback(broker.close)
        return broker


STORES: dict[str, Callable[[Path], Store]] = {
    "memory": MemoryStore,
    "redis": RedisStore,
    "sqlite": SqliteStore,
}
