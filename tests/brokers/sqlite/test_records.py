"""Texts beside the log: kept, replaced, forgotten."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from flask_eventstream.brokers.sqlite.records import recall, remember
from flask_eventstream.brokers.sqlite.tables import SCHEMA


@pytest.fixture
def db() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(SCHEMA)
        yield db


def test_the_last_text_of_a_name_counts(db: sqlite3.Connection) -> None:
    """A name has one text, for as long as it was told."""
    remember(db, "name", "first", now_ms=0, until_ms=10)
    remember(db, "name", "last", now_ms=1, until_ms=20)

    assert recall(db, "name", now_ms=19) == "last"
    assert recall(db, "name", now_ms=20) is None
    assert recall(db, "other", now_ms=0) is None


def test_the_table_shrinks_faster_than_it_grows(db: sqlite3.Connection) -> None:
    """Each new text takes several with it whose time is over, and none whose time is not."""
    remember(db, "kept", "", now_ms=0, until_ms=1000)
    for number in range(100):
        remember(db, f"old-{number}", "", now_ms=0, until_ms=10)
    for number in range(7):
        remember(db, f"new-{number}", "", now_ms=10, until_ms=1000)

    names = {name for (name,) in db.execute("SELECT name FROM sse_records")}

    assert names == {"kept", *(f"new-{number}" for number in range(7))}
