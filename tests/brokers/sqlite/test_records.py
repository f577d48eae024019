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
    remember(db, 0, "name", "first", for_s=0.01)
    remember(db, 1, "name", "last", for_s=0.019)

    assert recall(db, 19, "name") == "last"
    assert recall(db, 20, "name") is None
    assert recall(db, 0, "other") is None


def test_the_table_shrinks_faster_than_it_grows(db: sqlite3.Connection) -> None:
    """Each new text takes several with it whose time is over, and none whose time is not."""
    remember(db, 0, "kept", "", for_s=1)
    for number in range(100):
        remember(db, 0, f"old-{number}", "", for_s=0.01)
    for number in range(7):
        remember(db, 10, f"new-{number}", "", for_s=0.99)

    names = {name for (name,) in db.execute("SELECT name FROM sse_records")}

    assert names == {"kept", *(f"new-{number}" for number in range(7))}
