"""The URL of a client that an application made: what it connects to, our own does, too."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import redis
import redis.sentinel

from flask_eventstream.brokers.redis.client_url import url_of_client
from flask_eventstream.brokers.redis.url import RedisUrl
from flask_eventstream.errors import InvalidConfig

#: What decides where a client connects to, and as whom.
NAMES = ("host", "port", "db", "username", "password", "path")

CLIENTS = {
    "plain": redis.Redis(),
    "named": redis.Redis(host="redis.example", port=6380, db=3),
    "password": redis.Redis(password="p@ss:/?#%word"),
    "user": redis.Redis(username="sh op", password="x"),
    "decoding": redis.StrictRedis(decode_responses=True, socket_timeout=1.0, client_name="shop"),
    "v6": redis.Redis(host="::1"),
    "pool": redis.Redis(connection_pool=redis.BlockingConnectionPool(host="redis.example")),
    "url": redis.Redis.from_url("redis://:x@redis.example/5?socket_timeout=2"),
    "unix": redis.Redis(unix_socket_path="/run/re dis.sock", db=2, password="x"),
    "tls": redis.Redis(host="redis.example", ssl=True, ssl_ca_certs="/etc/ca.pem"),
    "lax": redis.Redis(ssl=True, ssl_cert_reqs="none", ssl_check_hostname=False),
}


def settings(client: Any) -> dict[str, Any]:
    kept = client.connection_pool.connection_kwargs
    found = {name: kept.get(name) or None for name in NAMES}
    return {**found, "class": client.connection_pool.connection_class}


@pytest.mark.parametrize("name", CLIENTS)
def test_our_client_connects_to_the_same(name: str) -> None:
    """A client that we make of the URL has the same server, database, user and password."""
    client = CLIENTS[name]

    ours = RedisUrl.parse(url_of_client(client, key="k"), key="k").client(5.0)

    wanted = settings(client)
    if name != "unix":
        wanted["port"] = wanted["port"] or 6379
    assert settings(ours) == wanted


@pytest.mark.parametrize(
    ("name", "said"), [("tls", "ssl_ca_certs=%2Fetc%2Fca.pem"), ("lax", "ssl_cert_reqs=none")]
)
def test_tls_is_said(name: str, said: str) -> None:
    """What a client checks of its server's certificate stands in the URL."""
    assert said in url_of_client(CLIENTS[name], key="k")


def test_a_mode_of_ssl_is_a_word() -> None:
    """A constant of Python's ssl stands in the URL as redis-py reads it there."""
    client = redis.Redis(ssl=True, ssl_cert_reqs=ssl.CERT_OPTIONAL)  # type: ignore[arg-type]

    assert "ssl_cert_reqs=optional" in url_of_client(client, key="k")


def sentinel() -> Any:
    return redis.sentinel.Sentinel([("localhost", 26379)]).master_for("shop")  # type: ignore[no-untyped-call]


def credentials() -> Any:
    provider = redis.credentials.UsernamePasswordCredentialProvider("user", "secret")
    return redis.Redis(credential_provider=provider)


@pytest.mark.parametrize(
    "client",
    [None, "redis://localhost", sentinel(), credentials()],
    ids=["none", "text", "sentinel", "credentials"],
)
def test_other_clients_are_refused(client: Any) -> None:
    """What no URL can say is refused, with what to do, and without a password."""
    with pytest.raises(
        InvalidConfig, match=r"Shop\.redis gives a .*: set SSE_BROKER_URL"
    ) as caught:
        url_of_client(client, key="Shop.redis")

    assert "secret" not in str(caught.value)
