"""`sqlite.tables`: tables that any process may make, and that an old SQLite knows."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest

from flask_eventstream.brokers.sqlite import file
from flask_eventstream.brokers.sqlite.broker import SqliteBroker
from flask_eventstream.brokers.sqlite.log import LogFile
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.event import Event

pytestmark = pytest.mark.real


def test_connections_may_make_the_file_at_once(tmp_path: Path) -> None:
    """Whoever opens a file that another is just making waits for it, and never fails."""
    failures: list[BrokerUnavailable] = []

    def open_one(path: Path, start: threading.Barrier) -> None:
        start.wait(10)
        try:
            LogFile(path, retention=None, busy_s=5).close()
        except BrokerUnavailable as error:
            failures.append(error)

    for number in range(50):
        made, start = tmp_path / f"{number}.db", threading.Barrier(4)
        threads = [threading.Thread(target=open_one, args=(made, start)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert failures == []


def test_nothing_is_said_that_the_oldest_sqlite_does_not_know() -> None:
    """No statement uses what came after SQLite 3.24, which the systems that we name still have."""
    rooms = Path(file.__file__).parent.glob("*.py")
    said = " ".join(room.read_text(encoding="utf-8") for room in rooms)
    younger = (
        *("RETURNING", "STRICT", " OVER ", "GENERATED", "MATERIALIZED", "NULLS ", "DISTINCT FROM"),
        *("RENAME COLUMN", "DROP COLUMN", "VACUUM INTO", "->>", "iif(", "unixepoch", "FILTER ("),
    )

    assert [word for word in younger if word in said] == []
    assert file.OLDEST == (3, 24, 0)


def test_a_file_of_another_version_is_named(broker: SqliteBroker, path: Path) -> None:
    """A log with other tables is not written to; the error says what to do with it."""
    db = sqlite3.connect(path)
    for table in ("sse_log (one INTEGER)", "sse_epochs (epoch TEXT, last INTEGER)"):
        db.execute(f"CREATE TABLE {table}")
    db.close()

    with pytest.raises(BrokerUnavailable, match=r"another version .* made the file; move it away"):
        broker.publish("a", Event("x"))
