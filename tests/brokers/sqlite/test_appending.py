"""`sqlite.appending`: entries are written all or none, each with what a reader must know."""

from __future__ import annotations

from pathlib import Path

import pytest

from brokers.sqlite.at_hand import Open, stored
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.event import Event

pytestmark = pytest.mark.real


def test_several_events_are_appended_all_or_none(open_log: Open, path: Path) -> None:
    """When one of several events finds no room, none of them is in the log."""
    log = open_log()
    (pages,) = log._db.execute("PRAGMA page_count").fetchone()
    log._db.execute(f"PRAGMA max_page_count = {pages + 2}")

    with pytest.raises(BrokerUnavailable):
        log.append("a", [Event("1"), Event("x" * 100_000)])

    assert stored(path) == []
