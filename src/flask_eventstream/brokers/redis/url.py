"""Where a log in Redis is: one server, servers behind Sentinels, or a cluster.

::

    redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]           one server; rediss:// with TLS
    unix://[[USER]:PASSWORD@]/PATH[?db=DB]               the same by a Unix socket
    redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT],…/SERVICE[/DB]
    redis+cluster://[[USER]:PASSWORD@]HOST[:PORT],…

With TLS the last two are ``rediss+sentinel``, to the Sentinels and to their servers, and
``rediss+cluster``. The query may have ``prefix=`` (of our keys, ``sse:``), for Sentinels that want
them ``sentinel_username=`` and ``sentinel_password=``, and ``replicas=`` (how many must confirm an
event before its publish returns: 0 with one server, else 1). With one server the rest of it is
redis-py's; of its options `_TLS_OPTIONS` are for many servers, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry

from flask_eventstream.errors import InvalidConfig

__all__ = ["SCHEMES", "Address", "RedisUrl"]

_PLAIN = ("redis", "rediss", "unix")
_MANY = ("redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
SCHEMES = (*_PLAIN, *_MANY)

#: What a URL that other programs share may say to redis-py, and what we must decide ourselves.
_OURS = frozenset(
    {
        *("protocol", "legacy_responses", "decode_responses", "encoding", "encoding_errors"),
        *("health_check_interval", "retry_on_timeout", "retry_on_error", "max_connections"),
        *("socket_timeout", "socket_connect_timeout", "timeout", "single_connection_client"),
    }
)

#: redis-py's, of all its versions that we take, and what each may be; ``None`` is a path.
_TLS_OPTIONS: Mapping[str, Mapping[str, Any] | None] = {
    "ssl_ca_certs": None,
    "ssl_certfile": None,
    "ssl_keyfile": None,
    "ssl_cert_reqs": {name: name for name in ("none", "optional", "required")},
    "ssl_check_hostname": {"true": True, "false": False},
}

_PORT = 6379
_SENTINEL_PORT = 26_379

Address = tuple[str, int]

_Sentinel: Any = redis.sentinel.Sentinel
_AsyncSentinel: Any = redis.asyncio.sentinel.Sentinel


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A broker's URL, taken apart. Makes clients; connects nothing."""

    plain: str
    """For one server: the URL as redis-py takes it. Else empty."""
    prefix: str
    shown: str
    """Without user and password."""
    replicas: int = 0
    """How many replicas must confirm an event."""
    addresses: Sequence[Address] = ()
    """Of Sentinels, or of some nodes of a cluster."""
    service: str = ""
    """What the Sentinels call the primary. Empty for a cluster."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """User, password, database, TLS: for each server's client."""
    sentinel_options: Mapping[str, Any] = field(default_factory=dict)
    """User and password of the Sentinels, and TLS: for their clients."""

    @property
    def is_cluster(self) -> bool:
        """True for a cluster."""
        return bool(self.addresses) and not self.service

    @classmethod
    def parse(cls, url: str, *, key: str) -> RedisUrl:
        """Take a URL apart.

        Raises:
            InvalidConfig: Names ``key``, the mistake and the form.
        """
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query))
        prefix = query.pop("prefix", "sse:")
        if "{" in prefix or "}" in prefix:
            raise InvalidConfig(
                [f"{key} has the prefix {prefix!r}: braces mean something to Redis"]
            )
        many = parts.scheme in _MANY
        replicas = query.pop("replicas", "1" if many else "0")
        if not replicas.isascii() or not replicas.isdigit():
            raise InvalidConfig([f"{key} has replicas={replicas}: it must be a whole number"])
        shown = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query=""))
        if many:
            return cls._parse_many(
                url, query, key=key, prefix=prefix, shown=shown, replicas=int(replicas)
            )
        kept = {name: value for name, value in query.items() if name not in _OURS}
        plain = f"{url.partition('?')[0]}?{urlencode(kept)}"
        try:
            redis.ConnectionPool.from_url(plain).make_connection()
        except (ValueError, TypeError) as error:
            raise InvalidConfig([f"{key} is no Redis URL: {error}"]) from error
        return cls(plain, prefix, shown, int(replicas))

    @classmethod
    def _parse_many(
        cls, url: str, query: dict[str, str], *, key: str, prefix: str, shown: str, replicas: int
    ) -> RedisUrl:
        parts = urlsplit(url)
        sentinel = parts.scheme.endswith("sentinel")
        user_info, _, hosts = parts.netloc.rpartition("@")
        user, _, password = user_info.partition(":")
        path = [step for step in parts.path.split("/") if step]
        tls = _take_tls(query, key=key) if parts.scheme.startswith("rediss") else {"ssl": False}
        sentinel_options = dict(tls)
        for name in ("sentinel_username", "sentinel_password"):
            if sentinel and name in query:
                sentinel_options[name.removeprefix("sentinel_")] = query.pop(name)
        if query:
            raise InvalidConfig([f"{key} has the unknown option {min(query)!r} in its query"])
        addresses = [
            _address(host, _SENTINEL_PORT if sentinel else _PORT, key=key)
            for host in hosts.split(",")
        ]
        options = dict(tls)
        if user:
            options["username"] = unquote(user)
        if password:
            options["password"] = unquote(password)
        if sentinel:
            if not path:
                form = f"{parts.scheme}://HOST:PORT,HOST:PORT/SERVICE"
                raise InvalidConfig([f"{key} does not name the service: write {form}"])
            options["db"] = _number(path[1], key=key) if len(path) > 1 else 0
        elif path:
            raise InvalidConfig([f"{key} names a database, and a cluster has none: leave it out"])
        service = path[0] if sentinel else ""
        return cls("", prefix, shown, replicas, addresses, service, options, sentinel_options)

    def client(self, timeout_s: float, address: Address | None = None) -> Any:
        """A client for threads; of the node at ``address`` in a cluster.

        It never sends a command twice: an event whose answer was lost may have been published.
        The caller is told, and decides.
        """
        common = _common(timeout_s, Retry(NoBackoff(), 0))
        if self.plain:
            return redis.Redis.from_url(self.plain, **common)
        if address is not None:
            return redis.Redis(host=address[0], port=address[1], **self.options, **common)
        sentinels: Any = _Sentinel(
            self.addresses, sentinel_kwargs={**common, **self.sentinel_options}
        )
        return sentinels.master_for(self.service, **self.options, **common)

    def async_client(self, timeout_s: float, address: Address | None = None) -> Any:
        """A client for the running loop; of the node at ``address`` in a cluster."""
        common = _common(timeout_s, redis.asyncio.retry.Retry(NoBackoff(), 0))
        if self.plain:
            return redis.asyncio.Redis.from_url(self.plain, **common)
        if address is not None:
            return redis.asyncio.Redis(host=address[0], port=address[1], **self.options, **common)
        sentinels: Any = _AsyncSentinel(
            self.addresses, sentinel_kwargs={**common, **self.sentinel_options}
        )
        return sentinels.master_for(self.service, **self.options, **common)


def _common(timeout_s: float, retry: Any) -> dict[str, Any]:
    return {
        "protocol": 2,
        "retry": retry,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
    }


def _take_tls(query: dict[str, str], *, key: str) -> dict[str, Any]:
    """Take what is about TLS out of a query, as redis-py's clients want it."""
    options: dict[str, Any] = {"ssl": True}
    for name in _TLS_OPTIONS.keys() & query.keys():
        value, meanings = query.pop(name), _TLS_OPTIONS[name]
        if meanings is not None and value not in meanings:
            raise InvalidConfig([f"{key} has {name}={value}: it must be {' or '.join(meanings)}"])
        options[name] = value if meanings is None else meanings[value]
    return options


def _address(text: str, default_port: int, *, key: str) -> Address:
    host, _, port = text.rpartition(":") if ":" in text.rpartition("]")[2] else (text, "", "")
    if not host:
        raise InvalidConfig([f"{key} has no host in {text!r}: write HOST or HOST:PORT"])
    return host.strip("[]"), _number(port, key=key) if port else default_port


def _number(text: str, *, key: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise InvalidConfig([f"{key} has {text!r} where a number must be"])
    return int(text)
