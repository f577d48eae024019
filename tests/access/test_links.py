"""`access.links`: what a link grants, and what is none."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from itsdangerous import URLSafeSerializer

from flask_eventstream.access.links import Link, read_link, sign_link

LINK = Link(
    channels=("news", "orders:42"),
    issued_at=1000.5,
    until=4600.5,
    open_until=1030.5,
    subject="ada",
    info={"name": "Ada ☃"},
    position="abcdefgh-12",
    name="n1",
)
BARE = Link(channels=("a",), issued_at=0.0, until=1.0)


def signed(link: Link, *keys: str, application: str = "shop") -> str:
    return sign_link(link, keys=keys or ("key",), application=application)


def read(token: str, *keys: str, application: str = "shop") -> Link | None:
    return read_link(token, keys=keys or ("key",), application=application)


@pytest.mark.parametrize("link", [LINK, BARE], ids=["whole", "bare"])
def test_a_token_is_its_link(link: Link) -> None:
    """What was signed is read again, whole, from letters that any address may have."""
    token = signed(link)

    assert read(token) == link
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", token)


@given(
    channels=st.lists(st.text(min_size=1, max_size=20), min_size=1, max_size=5, unique=True),
    subject=st.none() | st.text(min_size=1),
    until=st.floats(0, 1e12),
)
def test_any_link(channels: list[str], subject: str | None, until: float) -> None:
    """Any channels, subject and time are read as they were signed."""
    link = Link(tuple(sorted(channels)), 0.0, until, subject=subject)

    assert read(signed(link)) == link


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "x",
        "☃",
        "x" * 9000,
        signed(LINK)[:-1],
        signed(LINK)[1:],
        signed(LINK) + "A",
        signed(LINK, "another key"),
        signed(LINK, application="another application"),
        URLSafeSerializer("key").dumps({"c": ["a"], "t": 0, "u": 1}),
        URLSafeSerializer("key", salt="cookie-session").dumps({"user": "ada"}),
        URLSafeSerializer("key", salt="flask_eventstream.link:shop").dumps(["a list"]),
        URLSafeSerializer("key", salt="flask_eventstream.link:shop").dumps({"c": None}),
    ],
)
def test_what_is_no_link(token: str) -> None:
    """What another key, application or purpose has signed, or nobody, is no link."""
    assert read(token) is None


@given(st.text(max_size=100))
def test_any_text_is_no_link(token: str) -> None:
    """No text makes reading raise."""
    assert read(token) is None


@given(st.integers(0, 200), st.integers(1, 255))
def test_a_changed_letter_is_no_link(place: int, change: int) -> None:
    """A token of which one letter was changed grants nothing else than before."""
    token = signed(LINK)
    place %= len(token)
    changed = token[:place] + chr((ord(token[place]) + change) % 256) + token[place + 1 :]

    # Two texts of base 64 may stand for the same bytes: the last letter has bits to spare.
    assert read(changed) in (None, LINK)


def test_keys_rotate() -> None:
    """Signed with the newest key, and read with each that is still there."""
    token = signed(LINK, "old")

    assert read(token, "old", "new") == LINK
    assert read(signed(LINK, "old", "new"), "new") == LINK
    assert read(token, "new") is None


def test_a_link_says_nothing_else() -> None:
    """Another channel is another link."""
    assert signed(LINK) != signed(replace(LINK, channels=("news",)))
