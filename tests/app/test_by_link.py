"""`app.by_link`: what the link in a request's query grants, and what refuses it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from flask import Request, Response
from werkzeug.test import EnvironBuilder

from flask_eventstream import EventStream
from flask_eventstream.access.links import Link, sign_link
from flask_eventstream.app.by_link import keys_of, link_asked
from flask_eventstream.state import AppState
from harness.small_apps import an_app

NOW = time.time()
LINK = Link(channels=("a", "b"), issued_at=NOW, until=NOW + 1000, name="n1")
OPENED_BY = replace(LINK, open_until=NOW + 1000)


def a_state() -> AppState:
    return EventStream(an_app())._state()


def ask(
    link: Link, more: str = "", *, method: str = "GET", state: AppState | None = None
) -> Link | Response | None:
    """What is said to a request with this link."""
    app = an_app(SECRET_KEY="key")
    token = sign_link(link, keys=["key"], application=app.name)
    request = Request(EnvironBuilder(f"/stream?grant={token}{more}", method=method).get_environ())
    return link_asked(app, state or a_state(), request)


def status(answer: Any) -> int:
    return int(answer.status_code)


def test_keys_have_the_newest_last() -> None:
    """An application signs with its key, reads with the older ones too, and without one can't."""
    assert keys_of(an_app(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["old"])) == ["old", "new"]
    assert keys_of(an_app(SECRET_KEY="new")) == ["new"]
    assert keys_of(an_app(SECRET_KEY_FALLBACKS=["old"])) == []


def test_a_request_without_a_link() -> None:
    """Where the query has no link, nothing is decided."""
    app = an_app()
    state = EventStream(app)._state(app)

    assert link_asked(app, state, Request(EnvironBuilder("/stream").get_environ())) is None


@pytest.mark.parametrize("more", ["", "&channel=a", "&channel=", "&channel=b&channel=a"])
def test_a_link_is_what_was_signed(more: str) -> None:
    """A good link is given back, also where the query repeats its channels."""
    assert ask(LINK, more) == LINK


@pytest.mark.parametrize("more", ["&channel=c", "&channel=a&channel=c", "&grant=x"])
def test_a_link_grants_nothing_more(more: str) -> None:
    """Another channel beside a link, or a second link, is refused."""
    assert status(ask(LINK, more)) == 403


def test_a_link_that_is_over_ends_its_page() -> None:
    """A link whose time is over is answered as a stream that has ended."""
    assert status(ask(replace(LINK, until=NOW - 1))) == 204


def test_a_link_has_to_be_opened_in_time() -> None:
    """One that nobody opened in its time is void; one that was opened in time is its reader's."""
    state = a_state()
    late = replace(OPENED_BY, open_until=NOW - 1)
    assert status(ask(late, state=state)) == 403

    assert ask(OPENED_BY, state=state) == OPENED_BY
    assert ask(late, state=state) == late


def test_who_only_looks_opens_nothing() -> None:
    """A request with HEAD leaves the link unopened."""
    state = a_state()
    assert ask(OPENED_BY, method="HEAD", state=state) == OPENED_BY

    assert status(ask(replace(OPENED_BY, open_until=NOW - 1), state=state)) == 403
