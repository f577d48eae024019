"""Redis servers, networks before them, and a worker that reads from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from harness.redis_server import Proxy, RedisServer, run_proxy, run_redis
from harness.servers import Server
from live.redis.traffic import APPS


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def start_redis(stack: ExitStack) -> Callable[..., RedisServer]:
    """Starts servers that end with the test: `start_redis(aof=True)`, as `run_redis`."""
    return lambda *options, **more: stack.enter_context(run_redis(*options, **more))


@pytest.fixture
def start_proxy(stack: ExitStack) -> Callable[..., Proxy]:
    """Puts a network before a port: `start_proxy(port)`, as `run_proxy`."""
    return lambda port, **more: stack.enter_context(run_proxy(port, **more))


@pytest.fixture
def start_hub(serve: Callable[..., Server]) -> Callable[..., Server]:
    """Starts a gunicorn worker on a broker's URL: `start_hub(url, SSE_HEARTBEAT_S=1)`."""

    def start(url: str, *, kind: str = "gunicorn-sync", **settings: object) -> Server:
        given = {"SSE_BROKER_URL": url, **settings}
        env = {f"FLASK_{key}": str(value) for key, value in given.items()}
        return serve(kind, "plain:app", cwd=APPS, env=env)

    return start
