"""`sqlite.shares`: what processes say of channels, for as long as they live."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from flask_eventstream.brokers.sqlite.shares import share, shares, unshare
from flask_eventstream.brokers.sqlite.tables import SCHEMA


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(SCHEMA)
        yield db


def test_what_is_said_lasts_as_long_as_its_owner(db: sqlite3.Connection) -> None:
    """What several owners say of a channel is there together, each until its time."""
    share(db, 0, "one", {"a": "1", "b": "2"}, for_s=1, whole=True)
    share(db, 0, "other", {"a": "3"}, for_s=2, whole=True)

    assert sorted(shares(db, 999, "a")) == ["1", "3"]
    assert shares(db, 1000, "a") == ["3"]
    assert shares(db, 0, "b") == ["2"]


def test_a_change_leaves_the_rest(db: sqlite3.Connection) -> None:
    """A part that is said anew changes that part, and an empty text takes one away."""
    share(db, 0, "one", {"a": "1", "b": "2", "c": "3"}, for_s=1, whole=True)

    assert share(db, 500, "one", {"a": "4", "b": ""}, for_s=1, whole=False)
    assert [list(shares(db, 1400, channel)) for channel in "abc"] == [["4"], [], ["3"]]


def test_the_whole_takes_the_place_of_all(db: sqlite3.Connection) -> None:
    """An owner that says everything keeps nothing that it said before."""
    share(db, 0, "one", {"a": "1"}, for_s=1, whole=True)
    share(db, 0, "one", {"b": "2"}, for_s=1, whole=True)

    assert (shares(db, 0, "a"), shares(db, 0, "b")) == ([], ["2"])


def test_an_owner_whose_time_was_over_begins_anew(db: sqlite3.Connection) -> None:
    """A part of what is gone is not taken, and what is gone is cleared away."""
    share(db, 0, "one", {"a": "1"}, for_s=1, whole=True)

    assert not share(db, 1000, "one", {"b": "2"}, for_s=1, whole=False)
    assert db.execute("SELECT * FROM sse_shares").fetchall() == []


def test_who_leaves_says_nothing_more(db: sqlite3.Connection) -> None:
    """An owner takes its own words away, and nobody else's."""
    for owner in ("one", "other"):
        share(db, 0, owner, {"a": owner}, for_s=1, whole=True)
    unshare(db, 0, "one")

    assert shares(db, 0, "a") == ["other"]
