"""Which Redis an application uses, and what it is told when that can't be."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from flask_eventstream import EventStream
from flask_eventstream.config import Config
from flask_eventstream.errors import InvalidConfig
from harness.redis_server import RedisServer

SETTINGS: list[tuple[str, object]] = [
    ("SSE_BROKER_URL", "redis://first/1"),
    ("SSE_REDIS_URL", "redis://second/2"),
    ("REDIS_URL", "redis://third/3"),
    ("SSE_REDIS_HOST", "fourth"),
]


@pytest.mark.parametrize("first", range(4))
def test_precedence(first: int) -> None:
    """SSE_BROKER_URL comes before SSE_REDIS_URL, REDIS_URL and SSE_REDIS_HOST, in this order."""
    given = dict(SETTINGS[first:])
    expected = ["redis://first/1", "redis://second/2", "redis://third/3", "redis://fourth:6379/0"]

    config = Config.from_mapping(given)

    assert config.broker_url == expected[first]
    assert config.broker_key == SETTINGS[first][0]


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({"SSE_REDIS_HOST": "h"}, "redis://h:6379/0"),
        ({"SSE_REDIS_PORT": 7000}, "redis://localhost:7000/0"),
        ({"SSE_REDIS_PORT": "7000"}, "redis://localhost:7000/0"),
        ({"SSE_REDIS_DB": 5}, "redis://localhost:6379/5"),
        ({"SSE_REDIS_HOST": "h", "SSE_REDIS_PORT": 7, "SSE_REDIS_DB": 1}, "redis://h:7/1"),
    ],
)
def test_parts_have_defaults(settings: dict[str, object], url: str) -> None:
    """Of host, port and database those that are missing are localhost, 6379 and 0."""
    assert Config.from_mapping(settings).broker_url == url


def test_redis_is_not_the_default() -> None:
    """Without any of these keys there is no Redis."""
    assert Config.from_mapping({}).broker_url is None


def make_url(server: RedisServer) -> dict[str, dict[str, Any]]:
    return {
        "SSE_BROKER_URL": {"SSE_BROKER_URL": server.url, "REDIS_URL": "redis://localhost:1"},
        "SSE_REDIS_URL": {"SSE_REDIS_URL": server.url, "REDIS_URL": "redis://localhost:1"},
        "REDIS_URL": {"REDIS_URL": server.url, "SSE_REDIS_PORT": 1},
        "parts": {"SSE_REDIS_HOST": "127.0.0.1", "SSE_REDIS_PORT": server.port},
    }


@pytest.mark.parametrize("key", ["SSE_BROKER_URL", "SSE_REDIS_URL", "REDIS_URL", "parts"])
def test_an_application_uses_what_it_is_told(
    start_redis: Callable[..., RedisServer], key: str
) -> None:
    """An application publishes to the server that the foremost key names."""
    server = start_redis()
    app = Flask(__name__)
    app.config.update(make_url(server)[key])
    events = EventStream(app)
    with app.app_context():
        events.publish("x", channel="a")
        events._state().broker.close()

    assert server.ask("XLEN", "sse:events:{a}") == 1


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"SSE_BROKER_URL": "redis://host:port/0"}, "SSE_BROKER_URL is no Redis URL"),
        ({"SSE_BROKER_URL": "redis://host:99999"}, "SSE_BROKER_URL is no Redis URL"),
        (
            {"SSE_REDIS_URL": "redis://h?nonsense=1"},
            "SSE_REDIS_URL has the unknown option 'nonsense'",
        ),
        ({"REDIS_URL": "redis://h/0?prefix=%7Bx%7D"}, "REDIS_URL has the prefix '{x}'"),
        ({"REDIS_URL": "localhost:6379"}, "REDIS_URL is 'localhost:6379', which is no URL"),
        ({"REDIS_URL": "http://localhost"}, "no broker for http://"),
        ({"SSE_REDIS_PORT": "many"}, "SSE_REDIS_PORT is 'many', but must be"),
        ({"SSE_REDIS_PORT": 70_000}, "SSE_REDIS_PORT is 70000, but must be"),
        ({"SSE_REDIS_DB": -1}, "SSE_REDIS_DB is -1, but must be"),
        ({"SSE_BROKER_URL": "redis+sentinel://h:1"}, "SSE_BROKER_URL does not name the service"),
        ({"SSE_BROKER_URL": "redis+cluster://h:1/2"}, "names a database"),
    ],
    ids=str,
)
def test_wrong_settings(settings: dict[str, object], problem: str) -> None:
    """A setting that names no Redis is refused when the application is made, with its key."""
    app = Flask(__name__)
    app.config.update(settings)

    with pytest.raises(InvalidConfig) as caught:
        EventStream(app)

    assert problem in str(caught.value)


WITHOUT_REDIS = """
import sys
sys.modules["redis"] = None  # as if it were not installed
from flask import Flask
from flask_eventstream import EventStream
app = Flask(__name__)
app.config["SSE_BROKER_URL"] = sys.argv[1]
events = EventStream(app)
with app.app_context():
    print(bool(events.publish("x")))
"""


def run_without_redis(url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", WITHOUT_REDIS, url],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_redis_is_not_installed() -> None:
    """Without redis-py a Redis URL is refused with the command that installs it."""
    ended = run_without_redis("redis://localhost")

    assert "SSE_BROKER_URL names a Redis server: pip install 'flask-eventstream[redis]'" in (
        ended.stderr
    )


def test_redis_is_not_needed(tmp_path: Any) -> None:
    """Without redis-py everything else works."""
    ended = run_without_redis(f"sqlite:///{tmp_path}/events.db")

    assert (ended.returncode, ended.stdout) == (0, "True\n"), ended.stderr
