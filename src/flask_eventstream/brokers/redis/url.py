"""Where a log in Redis is: one server, servers behind Sentinels, or a cluster.

::

    redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]           one server; rediss:// with TLS
    unix://[[USER]:PASSWORD@]/PATH[?db=DB]               the same by a Unix socket
    redis+sentinel://[[USER]:PASSWORD@]HOST[:PORT],…/SERVICE[/DB]
    redis+cluster://[[USER]:PASSWORD@]HOST[:PORT],…

With TLS the last two are ``rediss+sentinel``, to the Sentinels and to their servers, and
``rediss+cluster``. The query may have ``prefix=`` (of our keys, ``sse:``, and where one is given
also of the names of pub/sub channels), for Sentinels that want them ``sentinel_username=`` and
``sentinel_password=``, and ``replicas=`` (how many must confirm an event before its publish
returns: 0 with one server, else 1). With one server the rest of it is redis-py's; of its options
`_TLS_OPTIONS` are for many servers, too.

Whatever is wrong with a URL, what is said of it has no password: values come from the URL only
where they can't be a part of one, and the errors of urllib and redis-py are not chained.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

import redis
import redis.asyncio
import redis.asyncio.retry
import redis.asyncio.sentinel
import redis.cluster
import redis.sentinel
from redis.backoff import NoBackoff
from redis.retry import Retry

from flask_eventstream.brokers.address import shown_url
from flask_eventstream.errors import InvalidConfig

__all__ = ["SCHEMES", "Address", "RedisUrl"]

_PLAIN = ("redis", "rediss", "unix")
_MANY = ("redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
SCHEMES = (*_PLAIN, *_MANY)

#: The beginning of every key, where none is given. Pub/sub channels then have the bare names that
#: the older extensions use.
_PREFIX = "sse:"

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
    # Celery wants them as Python calls them.
    "ssl_cert_reqs": {
        "none": "none",
        "optional": "optional",
        "required": "required",
        "CERT_NONE": "none",
        "CERT_OPTIONAL": "optional",
        "CERT_REQUIRED": "required",
    },
    "ssl_check_hostname": {"true": True, "false": False},
}

#: What is worth naming where an option is unknown.
_OPTIONS = ("prefix", "replicas")
_SENTINEL_OPTIONS = ("sentinel_username", "sentinel_password")
_CLIENT_OPTIONS = ("username", "password", "db", "client_name", "socket_keepalive")

_PORT = 6379
_SENTINEL_PORT = 26_379
_MAX_PORT = 65_535

Address = tuple[str, int]

_Sentinel: Any = redis.sentinel.Sentinel
_AsyncSentinel: Any = redis.asyncio.sentinel.Sentinel
_ClusterNode: Any = redis.cluster.ClusterNode


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """A broker's URL, taken apart. Makes clients; connects nothing."""

    plain: str = field(repr=False)
    """For one server: the URL as redis-py takes it, without what we decide. Else empty."""
    prefix: str
    shown: str
    """Without user, password and query."""
    replicas: int = 0
    """How many replicas must confirm an event."""
    addresses: Sequence[Address] = ()
    """Of Sentinels, or of some nodes of a cluster."""
    service: str = ""
    """What the Sentinels call the primary. Empty for a cluster."""
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """User, password, database, TLS: for each server's client."""
    sentinel_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """User and password of the Sentinels, and TLS: for their clients."""
    others: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What the URL tells redis-py on behalf of other programs."""
    secrets: frozenset[str] = field(default=frozenset(), repr=False)
    """What nobody may be shown, as it is and as it stands in the URL."""

    @property
    def is_cluster(self) -> bool:
        """True for a cluster."""
        return bool(self.addresses) and not self.service

    @property
    def channel_prefix(self) -> str:
        """What pub/sub channels begin with."""
        return "" if self.prefix == _PREFIX else self.prefix

    def cause(self, error: Exception) -> Exception | None:
        """An error to be shown as another's cause, unless it has a secret in it."""
        link: BaseException | None = error
        while link is not None:
            shown = f"{link} {link!r}"
            if any(secret in shown for secret in self.secrets):
                return None
            link = link.__cause__ or link.__context__
        return error

    def without_secrets(self, text: str) -> str:
        """A text that may be shown."""
        for secret in self.secrets:
            text = text.replace(secret, "…")
        return text

    @classmethod
    def parse(cls, url: str, *, key: str) -> RedisUrl:
        """Take a URL apart.

        Raises:
            InvalidConfig: Names ``key``, the mistake and the form.
        """
        shown = shown_url(url)
        parts, query = _split(url, key=key, shown=shown)
        prefix = query.pop("prefix", _PREFIX)
        if "{" in prefix or "}" in prefix:
            raise InvalidConfig(
                [f"{key} has the prefix {prefix!r}: braces mean something to Redis"]
            )
        many = parts.scheme in _MANY
        replicas = query.pop("replicas", "1" if many else "0")
        if not replicas.isascii() or not replicas.isdigit():
            raise InvalidConfig([f"{key} has replicas={replicas}: it must be a whole number"])
        tls = _take_tls(query, key=key, wanted=parts.scheme.startswith("rediss"))
        secrets = _secrets(parts, query)
        common: dict[str, Any] = {
            "prefix": prefix,
            "shown": shown,
            "replicas": int(replicas),
            "secrets": secrets,
        }
        if many:
            return cls(plain="", **common, **_parse_many(parts, query, tls, key=key))
        return cls(**common, options=tls, **_parse_one(url, query, key=key, shown=shown))

    def client(self, timeout_s: float, address: Address | None = None) -> Any:
        """A client for threads; of the node at ``address`` in a cluster, or behind Sentinels.

        It never sends a command twice: an event whose answer was lost may have been published.
        The caller is told, and decides.
        """
        common = _common(timeout_s, Retry(NoBackoff(), 0))
        if address is None:
            return redis.Redis.from_url(self.plain, **self.options, **common)
        return redis.Redis(host=address[0], port=address[1], **self.options, **common)

    def sentinel_client(self, timeout_s: float, address: Address) -> Any:
        """A client of a Sentinel, for threads."""
        common = _common(timeout_s, Retry(NoBackoff(), 0))
        return redis.Redis(host=address[0], port=address[1], **self.sentinel_options, **common)

    def async_client(self, timeout_s: float, address: Address | None = None) -> Any:
        """A client for the running loop; of the node at ``address`` in a cluster."""
        common = _common(timeout_s, redis.asyncio.retry.Retry(NoBackoff(), 0))
        if self.plain:
            return redis.asyncio.Redis.from_url(self.plain, **self.options, **common)
        if address is not None:
            return redis.asyncio.Redis(host=address[0], port=address[1], **self.options, **common)
        sentinels: Any = _AsyncSentinel(
            self.addresses, sentinel_kwargs={**common, **self.sentinel_options}
        )
        return sentinels.master_for(self.service, **self.options, **common)

    def own_client(self) -> Any:
        """redis-py's client as it makes it of such a URL, for an application's own commands.

        In a cluster this connects.
        """
        if self.plain:
            joint = "&" if "?" in self.plain else "?"
            url = f"{self.plain}{joint}{urlencode(self.others)}" if self.others else self.plain
            return redis.Redis.from_url(url, **self.options)
        if self.is_cluster:
            nodes = [_ClusterNode(host, port) for host, port in self.addresses]
            return redis.RedisCluster(startup_nodes=nodes, **self.options)
        sentinels: Any = _Sentinel(self.addresses, sentinel_kwargs=dict(self.sentinel_options))
        return sentinels.master_for(self.service, **self.options)


def _split(url: str, *, key: str, shown: str) -> tuple[SplitResult, dict[str, str]]:
    """The parts of a URL, with a port that is one, and its query."""
    try:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query, strict_parsing=bool(parts.query)))
        whole = not parts.fragment
        if parts.scheme in _PLAIN:
            whole = whole and "," not in parts.netloc and parts.port != 0
    except ValueError:  # its text has what it could not read, which may be a password
        whole = False
    if whole:
        return parts, query
    what = "the form is redis://[[USER]:PASSWORD@]HOST[:PORT][/DB], several hosts are for "
    what += "redis+sentinel:// and redis+cluster://"
    escape = "characters of a password that mean something in a URL are written as %40 for @"
    raise InvalidConfig([f"{key} is no Redis URL: {shown!r}: {what}; {escape}"]) from None


def _secrets(parts: SplitResult, query: Mapping[str, str]) -> frozenset[str]:
    said = parts.netloc.rpartition("@")[0].partition(":")[2]
    named = (query.get(name, "") for name in ("password", "sentinel_password", "ssl_password"))
    return frozenset({said, unquote(said), *named} - {""})


def _parse_one(url: str, query: dict[str, str], *, key: str, shown: str) -> dict[str, Any]:
    """What is special about the URL of one server."""
    parts = urlsplit(url)
    path = parts.path.strip("/")
    if parts.scheme == "unix":
        if not path:
            raise InvalidConfig([f"{key} names no socket: write unix:///path/of/redis.sock"])
    elif path and not (path.isascii() and path.isdigit()):
        why = "and a database is a number: write redis://HOST:PORT/0"
        raise InvalidConfig([f"{key} is {shown!r}, {why}"])
    others = {name: query.pop(name) for name in _OURS & query.keys()}
    _refuse_unknown(query.keys() - _accepted(parts.scheme), parts.scheme, key=key)
    before = url.partition("?")[0]
    plain = f"{before}?{urlencode(query)}" if query else before
    try:
        redis.ConnectionPool.from_url(plain).make_connection()
    except (ValueError, TypeError, redis.RedisError):
        # Its text has the bad value.
        options = ", ".join(sorted(query))
        raise InvalidConfig([f"{key} has options that redis-py refuses: {options}"]) from None
    return {"plain": plain, "others": others}


def _parse_many(
    parts: SplitResult, query: dict[str, str], tls: dict[str, Any], *, key: str
) -> dict[str, Any]:
    """What is special about the URL of Sentinels, or of a cluster."""
    sentinel = parts.scheme.endswith("sentinel")
    user_info, _, hosts = parts.netloc.rpartition("@")
    user, _, password = user_info.partition(":")
    path = [step for step in parts.path.split("/") if step]
    security = {"ssl": parts.scheme.startswith("rediss"), **tls}
    sentinel_options = dict(security)
    for name in _SENTINEL_OPTIONS:
        if sentinel and name in query:
            sentinel_options[name.removeprefix("sentinel_")] = query.pop(name)
    _refuse_unknown(query.keys(), parts.scheme, key=key)
    default_port = _SENTINEL_PORT if sentinel else _PORT
    addresses = [_address(host, default_port, key=key) for host in hosts.split(",")]
    options = dict(security)
    if user:
        options["username"] = unquote(user)
    if password:
        options["password"] = unquote(password)
    if sentinel:
        if not path:
            form = f"{parts.scheme}://HOST:PORT,HOST:PORT/SERVICE"
            raise InvalidConfig([f"{key} does not name the service: write {form}"])
        options["db"] = _number(path[1], key=key, what="database") if len(path) > 1 else 0
    elif path:
        raise InvalidConfig([f"{key} names a database, and a cluster has none: leave it out"])
    return {
        "addresses": addresses,
        "service": path[0] if sentinel else "",
        "options": options,
        "sentinel_options": sentinel_options,
    }


def _common(timeout_s: float, retry: Any) -> dict[str, Any]:
    return {
        "protocol": 2,
        "retry": retry,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
    }


def _accepted(scheme: str) -> set[str]:
    """The options that redis-py's connection of this kind takes."""
    classes: dict[str, type] = {
        "redis": redis.Connection,
        "rediss": redis.SSLConnection,
        "unix": redis.UnixDomainSocketConnection,
    }
    names: set[str] = set()
    for base in classes[scheme].__mro__:
        names.update(inspect.signature(base.__init__).parameters)  # type: ignore[misc]
    return names - {"self", "args", "kwargs"}


def _refuse_unknown(names: Iterable[str], scheme: str, *, key: str) -> None:
    unknown = sorted(names)
    if unknown:
        there_are = [*_OPTIONS]
        there_are += _SENTINEL_OPTIONS if scheme.endswith("sentinel") else ()
        there_are += _CLIENT_OPTIONS if scheme in _PLAIN else ()
        there_are += _TLS_OPTIONS if scheme.startswith("rediss") else ()
        what = f"{key} has the unknown option {unknown[0]!r} in its query"
        raise InvalidConfig([f"{what}: there are {', '.join(there_are)}"])


def _take_tls(query: dict[str, str], *, key: str, wanted: bool) -> dict[str, Any]:
    """Take what is about TLS out of a query, as redis-py's clients want it."""
    options: dict[str, Any] = {}
    for name in sorted(_TLS_OPTIONS.keys() & query.keys()):
        if not wanted:
            raise InvalidConfig([f"{key} has {name}, but no TLS: write rediss in its scheme"])
        value, meanings = query.pop(name), _TLS_OPTIONS[name]
        if meanings is not None and value not in meanings:
            raise InvalidConfig([f"{key} has {name}={value}: it must be {' or '.join(meanings)}"])
        options[name] = value if meanings is None else meanings[value]
    return options


def _address(text: str, default_port: int, *, key: str) -> Address:
    host, _, port = text.rpartition(":") if ":" in text.rpartition("]")[2] else (text, "", "")
    if not host:
        raise InvalidConfig([f"{key} names a port without its host: write HOST or HOST:PORT"])
    number = _number(port, key=key, what="port") if port else default_port
    if not 0 < number <= _MAX_PORT:
        raise InvalidConfig([f"{key} has the port {number}: it must be 1 to {_MAX_PORT}"])
    return host.strip("[]"), number


def _number(text: str, *, key: str, what: str) -> int:
    if not text.isascii() or not text.isdigit():
        # Not shown: it may be a password without its "@".
        raise InvalidConfig([f"{key} has a {what} that is no number"])
    return int(text)
