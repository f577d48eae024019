"""A Redis server, brokers of it, and a proxy in front of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from brokers.redis.at_hand import (
    Open,
)
from flask_eventstream.brokers import Broker, broker_from_url
from flask_eventstream.log.entries import Retention
from harness.redis_server import Proxy, RedisServer, run_proxy, run_redis


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def server(stack: ExitStack) -> RedisServer:
    """A server without persistence."""
    return stack.enter_context(run_redis())


@pytest.fixture
def open_url(stack: ExitStack) -> Open:
    """A broker of a URL, closed with the test."""

    def open_url(url: str, retention: Retention | None = None, timeout_s: float = 5) -> Broker:
        broker = broker_from_url(url, retention=retention, timeout_s=timeout_s)
        stack.callback(broker.close)
        return broker

    return open_url


@pytest.fixture
def redis_broker(server: RedisServer, open_url: Open) -> Broker:
    return open_url(server.url)


@pytest.fixture
def start_proxy(stack: ExitStack) -> Callable[..., Proxy]:
    return lambda port, **more: stack.enter_context(run_proxy(port, **more))
