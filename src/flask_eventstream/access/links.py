"""Signed links: an address that grants exactly its channels, without cookies.

A link is a value; its token is that value, signed. Whoever has the token may read what stands in
it, so it is never logged. It is signed with the application's ``SECRET_KEY``, under a salt that has
the application's name, so that neither another application's link nor anything else that the key
has signed (sessions, say) is taken for one.

Rules of this room: no clock, no socket, nothing of a request.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from itsdangerous import BadData, URLSafeSerializer, want_bytes

__all__ = ["QUERY", "Link", "read_link", "sign_link"]

#: The name of a token in a link's query.
QUERY = "grant"

#: A request line ends at about 8 KiB (gunicorn: 4094 for the whole line by default); more than
#: that is no link of ours, and is not worth the work of looking.
_MAX_TOKEN_CHARACTERS = 8192

_Key = str | bytes


@dataclass(frozen=True, slots=True)
class Link:
    """What a link grants."""

    channels: tuple[str, ...]
    """Sorted, each once: these and no others."""
    issued_at: float
    """When it was made, in seconds since 1970."""
    until: float
    """When it ends, in seconds since 1970."""
    open_until: float | None = None
    """When it is void unless somebody has opened it; ``None`` is never."""
    subject: str | None = None
    """Whom it was made for."""
    info: Mapping[str, Any] | None = None
    """What other members see of its reader."""
    position: str | None = None
    """Where the log stood when it was made: nothing published since is missed."""
    name: str | None = None
    """Its own name, where it has to be recognised: one that must be opened in time."""


def sign_link(link: Link, *, keys: Sequence[_Key], application: str) -> str:
    """The token of a link: letters, digits and ``-_.`` alone.

    Args:
        link: What it grants.
        keys: The application's keys; signed with the last.
        application: The application's name.
    """
    fields = (
        ("c", list(link.channels)),
        ("t", link.issued_at),
        ("u", link.until),
        ("o", link.open_until),
        ("s", link.subject),
        ("i", None if link.info is None else dict(link.info)),
        ("p", link.position),
        ("n", link.name),
    )
    plain = {key: value for key, value in fields if value is not None}
    return str(_serializer(keys, application).dumps(plain))


def read_link(token: str, *, keys: Sequence[_Key], application: str) -> Link | None:
    """The link of a token; ``None`` where no key of the application has signed it.

    Whether it has ended is for the caller, who has a clock.
    """
    if len(token) > _MAX_TOKEN_CHARACTERS or not token.isascii():
        return None
    try:
        plain = _serializer(keys, application).loads(token)
        return Link(
            channels=tuple(plain["c"]),
            issued_at=plain["t"],
            until=plain["u"],
            open_until=plain.get("o"),
            subject=plain.get("s"),
            info=plain.get("i"),
            position=plain.get("p"),
            name=plain.get("n"),
        )
    except (BadData, KeyError, TypeError, AttributeError):
        return None


def _serializer(keys: Sequence[_Key], application: str) -> URLSafeSerializer:
    return URLSafeSerializer(
        [want_bytes(key) for key in keys], salt=f"flask_eventstream.link:{application}"
    )
