"""Addresses as they are shown."""

from __future__ import annotations

import pytest

from flask_eventstream.brokers.address import shown_url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:S3CRET@host/0?prefix=x:", "redis://host/0"),
        ("redis://me:S3CRET@host:7000/3", "redis://host:7000/3"),
        ("redis+sentinel://:S3CRET@one:1,[::1]:2/mine/0", "redis+sentinel://one:1,[::1]:2/mine/0"),
        ("postgres://me:S3CRET@host/db", "postgres://host/db"),
        ("unix://:S3CRET@/path/of.sock?db=1", "unix:///path/of.sock"),
        ("sqlite:////srv/events@home.db", "sqlite:////srv/events@home.db"),
        ("localhost:6379", "localhost:6379"),
        ("sqlite:events.db", "sqlite:events.db"),
        ("redis//localhost", "redis//localhost"),
    ],
)
def test_what_is_shown(url: str, shown: str) -> None:
    """An address is shown without user, password and query."""
    assert shown_url(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        *("redis://:S3CRET[@host", "redis://:S3CRET/@host", "redis://:/S3CRET@host"),
        *("redis://:S3CRET?@host", "redis://:?S3CRET@host", "redis://:#S3CRET@host"),
        *("redis://:@S3CRET@host", "redis://:S3CRET", "redis://me:S3CRET", "redis//:S3CRET"),
        *("redis//:S3CRET@host", "redis:/:S3CRET@host", "redis:me:S3CRET@host", ":S3CRET@host"),
        *("redis://host?password=S3CRET", "redis://host?password=@S3CRET", "http://me:S3CRET@host"),
        *("redis+cluster://one:1,two:S3CRET", "redis+cluster://me:S3CRET@one,two", "//:S3CRET"),
    ],
)
def test_no_password_is_shown(url: str) -> None:
    """However malformed a URL is, what is shown of it has no password."""
    assert "S3CRET" not in shown_url(url)
