"""Brokers: where events are logged, and how every hub hears of them."""

from __future__ import annotations

import re
import sqlite3
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from flask_eventstream.brokers.address import shown_url
from flask_eventstream.brokers.broker import (
    Broker,
    HasClient,
    HasControl,
    HasHistory,
    HasLimits,
    HasRecords,
    HasShares,
    Inbox,
    Listener,
    check_channel,
)
from flask_eventstream.brokers.memory import MemoryBroker
from flask_eventstream.brokers.sqlite.broker import SqliteBroker
from flask_eventstream.brokers.sqlite.file import OLDEST, is_too_old
from flask_eventstream.errors import InvalidConfig
from flask_eventstream.log.entries import Retention

_redis: Any
try:
    from flask_eventstream.brokers.redis import broker as _redis
    from flask_eventstream.brokers.redis.url import RedisUrl as _RedisUrl
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] != "redis":
        raise
    _redis = None  # the extra is not installed

_REDIS_SCHEMES = (
    *("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel"),
    *("redis+cluster", "rediss+cluster"),
)

__all__ = [
    "Broker",
    "HasClient",
    "HasControl",
    "HasHistory",
    "HasLimits",
    "HasRecords",
    "HasShares",
    "Inbox",
    "Listener",
    "MakeBroker",
    "broker_from_url",
    "check_channel",
    "find_broker",
]


class MakeBroker(Protocol):
    """Makes a broker that a URL names; the arguments are those of `broker_from_url`."""

    def __call__(self, *, retention: Retention | None, timeout_s: float) -> Broker:
        """Opens nothing yet."""


def broker_from_url(
    url: str, *, retention: Retention | None, timeout_s: float, key: str = "SSE_BROKER_URL"
) -> Broker:
    """The broker that ``url`` names. Opens nothing yet.

    Args:
        url: ``sqlite:///relative/path`` (from the current folder), ``sqlite:////absolute/path``
            or ``memory://``, which is a log of its own each time.
        retention: How much of each channel readers may get; ``None``: what the log itself
            remembers, else the default.
        timeout_s: Seconds that a publish may take before it fails.
        key: The configuration key to name in an error.

    Raises:
        InvalidConfig: No broker is known by this URL.
    """
    return find_broker(url, key=key)(retention=retention, timeout_s=timeout_s)


def find_broker(url: str, *, key: str) -> MakeBroker:
    """What makes the broker that ``url`` names. Makes nothing itself, so it is a check, too.

    Raises:
        InvalidConfig: No broker is known by this URL.
    """
    scheme, separator, rest = url.partition("://")
    if scheme == "sqlite":
        return partial(SqliteBroker, _path(url, rest, key))
    if not separator:
        why = f"is no URL: write {_meant(url)}"
    elif scheme == "memory":
        if not rest:
            return lambda *, retention, timeout_s: MemoryBroker(url, retention=retention)  # noqa: ARG005
        why = "names the memory of this process: write memory:// and nothing behind it"
    elif scheme in _REDIS_SCHEMES:
        return _find_redis(url, key=key)
    else:
        known = ", ".join(f"{name}://" for name in ("sqlite", *_REDIS_SCHEMES, "memory"))
        problem = f"{key} is {shown_url(url)!r}: no broker for {scheme}://, there are {known}"
        raise InvalidConfig([problem])
    raise InvalidConfig([f"{key} is {shown_url(url)!r}, which {why}"])


def _path(url: str, rest: str, key: str) -> Path:
    """The file that a SQLite URL names.

    Raises:
        InvalidConfig: It names none, or SQLite is too old.
    """
    path = rest[1:]
    if not rest.startswith("/") or not path:
        why = "names no file: write sqlite:///relative/path or sqlite:////absolute/path"
    elif path == ":memory:":
        why = "would be one log per connection: write memory:// for a log in memory"
    elif path.endswith("/") or Path(path).is_dir():
        why = f"names a folder: write the file, too, as in {url.rstrip('/')}/events.db"
    elif "?" in path:
        why = f"has options, and there are none: write {url.partition('?')[0]}"
    elif is_too_old():
        oldest, have = ".".join(map(str, OLDEST)), sqlite3.sqlite_version
        why = f"needs SQLite {oldest}, and this Python has {have}: use another Python, or Redis"
    else:
        return Path(path)
    # One that names no file may be another's, with a password.
    shown = url if rest.startswith("/") else shown_url(url)
    raise InvalidConfig([f"{key} is {shown!r}, which {why}"])


def _meant(text: str) -> str:
    """The form of the URL that a text without ``://`` was meant to be."""
    scheme = re.match(r"[a-z+]*", text)
    if scheme is not None and scheme[0] in _REDIS_SCHEMES:
        return f"{scheme[0]}://HOST" if scheme[0] != "unix" else "unix:///PATH"
    return "sqlite:///path, redis://host or memory://"


def _find_redis(url: str, *, key: str) -> MakeBroker:
    if _redis is None:
        problem = f"{key} names a Redis server: pip install 'flask-eventstream[redis]'"
        raise InvalidConfig([problem])
    return partial(_redis.RedisBroker, _RedisUrl.parse(url, key=key))
