"""The URL of the server that an application's own redis-py client is connected to.

Needs no redis-py: it knows names of its classes and settings, and connects nothing.
"""

from __future__ import annotations

import ssl
from typing import Any
from urllib.parse import quote, urlencode

from flask_eventstream.errors import InvalidConfig

__all__ = ["url_of_client"]

_SCHEMES = {
    "Connection": "redis",
    "SSLConnection": "rediss",
    "UnixDomainSocketConnection": "unix",
}
_POOLS = ("ConnectionPool", "BlockingConnectionPool")

#: What a URL may say of TLS, and what it can't.
_TLS = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname")
_UNSAID = ("credential_provider", "ssl_ca_data", "ssl_ca_path", "ssl_password")
_CERTIFICATES = {
    ssl.CERT_NONE: "none",
    ssl.CERT_OPTIONAL: "optional",
    ssl.CERT_REQUIRED: "required",
}


def url_of_client(client: object, *, key: str) -> str:
    """The URL to write for ``client``; time-outs, decoding and the like are left out.

    Args:
        client: A redis-py client of one server.
        key: Where it comes from, for the error's text.

    Raises:
        InvalidConfig: It is something else, such as a client of a cluster, or has settings that no
            URL could say.
    """
    pool: Any = getattr(client, "connection_pool", None)
    scheme = _SCHEMES.get(getattr(getattr(pool, "connection_class", None), "__name__", ""))
    if scheme is None or type(pool).__name__ not in _POOLS:
        raise _unknown(key, f"gives a {type(client).__name__} that is no client of one server")
    settings = {name: value for name, value in pool.connection_kwargs.items() if value is not None}
    for name in _UNSAID:
        if name in settings:
            raise _unknown(key, f"gives a client with {name}, which no URL can say")
    query = {
        name: _said(settings[name]) for name in _TLS if name in settings and scheme == "rediss"
    }
    user_info = _user_info(settings)
    if scheme == "unix":
        query["db"] = str(settings.get("db", 0))
        return f"unix://{user_info}{quote(settings['path'])}?{urlencode(query)}"
    host = str(settings.get("host", "localhost"))
    shown = f"[{host}]" if ":" in host else host
    address = f"{shown}:{settings.get('port', 6379)}/{settings.get('db', 0)}"
    return f"{scheme}://{user_info}{address}" + (f"?{urlencode(query)}" if query else "")


def _user_info(settings: dict[str, Any]) -> str:
    user, password = (_said(settings.get(name, "")) for name in ("username", "password"))
    if not user and not password:
        return ""
    return f"{quote(user, safe='')}:{quote(password, safe='')}@"


def _said(value: object) -> str:
    if isinstance(value, ssl.VerifyMode):
        return _CERTIFICATES[value]
    if isinstance(value, bytes):
        return value.decode()
    return str(value).lower() if isinstance(value, bool) else str(value)


def _unknown(key: str, why: str) -> InvalidConfig:
    remedy = "set SSE_BROKER_URL to the server's URL, and let the property give what it likes"
    return InvalidConfig([f"{key} {why}: {remedy}"])
