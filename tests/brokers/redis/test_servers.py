"""`redis.servers`: which server, over which connection, and in a forked child another."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from brokers.redis.at_hand import (
    Listen,
    Open,
    publish,
)
from flask_eventstream.brokers import Broker, broker_from_url
from flask_eventstream.event import Event
from harness.redis_server import RedisServer, run_redis
from harness.stage import has_ended

pytestmark = pytest.mark.real


def test_a_forked_child_has_connections_of_its_own(server: RedisServer) -> None:
    """A publisher that was used before a fork works on both sides of it."""
    script = (
        "import os, sys\n"
        "from flask_eventstream import Publisher\n"
        "publisher = Publisher(sys.argv[1])\n"
        "publisher.publish('before')\n"
        "child = os.fork()\n"
        "for _ in range(50):\n"
        "    publisher.publish('child' if child == 0 else 'parent')\n"
        "os._exit(0) if child == 0 else sys.exit(os.waitpid(child, 0)[1])\n"
    )
    subprocess.run([sys.executable, "-c", script, server.url], check=True, timeout=30)

    assert server.ask("XLEN", "sse:events:{sse}") == 101


def test_a_child_has_locks_of_its_own(redis_broker: Broker) -> None:
    """A fork while another thread holds a lock of the broker leaves the child free to publish."""
    servers: Any = redis_broker._servers  # type: ignore[attr-defined]
    with servers._lock:
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            try:
                redis_broker.publish("a", Event("x"))
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)

    assert status == 0


def test_a_unix_socket(stack: ExitStack, open_url: Open, listen: Listen, tmp_path: Path) -> None:
    """`unix://` reaches a server by its socket, with options in the query."""
    path = tmp_path / "redis.sock"
    server = stack.enter_context(run_redis("--unixsocket", str(path)))
    broker = open_url(f"unix://{path}?db=1&prefix=u:")
    ear = listen(broker, "a")

    publish(broker, "a", "1")

    ear.wait_heard(1)
    with server.admin as client:
        assert client.info("keyspace")["db1"]["keys"] == 3


@pytest.mark.parametrize(
    "option",
    [
        *("decode_responses=True", "protocol=3", "health_check_interval=1", "encoding=latin-1"),
        *("socket_timeout=30", "retry_on_timeout=True", "max_connections=1"),
    ],
)
def test_options_for_others_change_nothing(
    server: RedisServer, open_url: Open, listen: Listen, option: str
) -> None:
    """What a shared URL tells redis-py on behalf of other programs does no harm here."""
    broker = open_url(f"{server.url}?{option}")
    ear = listen(broker, "a")

    (position,) = publish(broker, "a", "ä")

    ear.wait_heard(1)
    assert [entry.position for entry in ear.heard] == [position]
    assert not has_ended(broker, ["a"], position)


def test_the_database_is_chosen(server: RedisServer, open_url: Open) -> None:
    """The number in the URL's path is the database of all keys."""
    publish(open_url(server.url.replace("/0", "/3")), "a", "1")

    with server.admin as client:
        assert list(client.info("keyspace")) == ["db3"]


def test_the_process_is_named_by_nothing_secret() -> None:
    """A broker shows its address without user and password."""
    secret = secrets.token_hex(8)
    broker = broker_from_url(
        f"redis://user:{secret}@localhost:1/0?prefix=x", retention=None, timeout_s=1
    )

    assert broker.url == "redis://localhost:1/0"
