"""`sqlite.history`: what the file has for a reader."""

from __future__ import annotations

from pathlib import Path

import pytest

from brokers.sqlite.at_hand import (
    Open,
    data,
    numbered,
    opened,
    publish,
)
from brokers.stores import Clock
from flask_eventstream.brokers.sqlite.log import LogFile
from flask_eventstream.event import Event
from flask_eventstream.log.entries import Missed, Retention

pytestmark = pytest.mark.real


def test_what_trimming_removed_is_reported(open_log: Open, clock: Clock) -> None:
    """A reader whose next events left the file is told so, and one behind them is not."""
    log = open_log(Retention(length=100))
    ids = publish(log, "a", *numbered(100))
    clock.advance(11)
    ids += publish(log, "a", *numbered(300))

    assert log.read(["a"], ids[0]).gone == {"a"}
    assert not log.read(["a"], ids[-101]).gone


def test_a_row_that_can_not_be_sent_is_passed_over(open_log: Open) -> None:
    """What another program wrote into the table and no event stream can carry is left out."""
    log = open_log()
    (start,) = publish(log, "a", "1")
    insert = "INSERT INTO sse_events (channel, at_ms, data, type) VALUES ('a', ?, ?, ?)"
    with log._writing():
        for text, kind in (("x", "two\nlines"), (b"bytes", None), ("fine", None)):
            log._db.execute(insert, (log._now_ms(), text, kind))

    assert data(log.read(["a"], start).entries) == ["fine"]
    assert data(log.news({"a"}, 1).entries) == ["fine"]


def test_a_made_up_id_costs_the_same_in_any_log(path: Path) -> None:
    """To find out that an id is nobody's takes no more steps in a long log than in a short one."""

    def steps(log: LogFile, after: str) -> int:
        count = 0

        def step() -> int:
            nonlocal count
            count += 1
            return 0

        log._db.set_progress_handler(step, 1)
        assert log.arrive(["a", "b"], after) == Missed()
        log._db.set_progress_handler(None, 1)
        return count

    with opened(path) as log:
        log.append("a", [Event("x", id="first")])
        short = [steps(log, after) for after in ("nobody's", "00000000-7")]
        for channel in range(300):
            log.append(str(channel), [Event("x", id="nobody's"), Event("x", id="other")])
        long = [steps(log, after) for after in ("nobody's", "00000000-7")]

    assert max(after - before for before, after in zip(short, long, strict=True)) < 30
