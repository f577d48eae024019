"""A broker's address as it may be shown. No password is, however malformed the URL that has it."""

from __future__ import annotations

__all__ = ["shown_url"]


def shown_url(url: str) -> str:
    """A broker's URL without user, password and query."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        if "@" not in url and "//" not in url and url[:1] != ":":
            return url  # a host and its port, a file
        scheme, separator, rest = url.partition("//")
        if not separator:
            scheme, rest = "", url
    place, _, query = rest.partition("?")
    if "@" in query:
        # A password with a "?" that is not escaped, or one in the query.
        return f"{scheme}{separator}…"
    if place.startswith("/"):
        return f"{scheme}{separator}{place}"
    # Behind the last "@", so also where a password has a "/" or an "@" that is not escaped.
    hosts, slash, path = place.rpartition("@")[2].partition("/")
    shown = ",".join(_shown_host(host) for host in hosts.split(","))
    return f"{scheme}{separator}{shown}{slash}{path}"


def _shown_host(host: str) -> str:
    name, colon, port = host.rpartition(":")
    # "redis://:SECRET" where "redis://:SECRET@host" was meant.
    return f"{name}:…" if colon and port and not port.isdigit() and "[" not in name else host
