"""`redis.reports`: each trouble is said once, and once that it is over."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from flask_eventstream.brokers.redis.message import Unreadable
from flask_eventstream.brokers.redis.reports import Reports

GONE = RedisConnectionError("Connection refused")
WRONG = ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value")

Said = Callable[[], list[str]]


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Said:
    """What was logged since it was asked last, up to the first colon."""

    def said() -> list[str]:
        texts = [record.getMessage().partition(":")[0] for record in caplog.records]
        caplog.clear()
        return texts

    return said


def test_a_server_that_is_away_is_said_once(said: Said) -> None:
    """However often it fails, one line says so, and one that it is back."""
    reports = Reports("redis://h")
    for _ in range(3):
        reports.away(GONE)

    assert said() == ["Readers get no events until redis"]

    for _ in range(2):
        reports.back()

    assert said() == ["redis"]


def test_it_is_not_back_that_never_was_away(said: Said) -> None:
    """A first session is no return."""
    Reports("redis://h").back()

    assert said() == []


def test_one_channel_is_named_by_itself(said: Said) -> None:
    """A channel whose log can't be read is said once, and neither the server nor others."""
    reports = Reports("redis://h")
    for _ in range(2):
        reports.unread(["a"], WRONG)

    assert said() == ["Readers of 'a' get no events from redis"]

    reports.read(["b"])
    assert said() == []

    reports.read(["a", "b"])
    assert said() == ["Readers of 'a' get events from redis"]


def test_who_is_read_no_more_is_forgotten(said: Said) -> None:
    """A channel without readers is not said to be well again."""
    reports = Reports("redis://h")
    reports.damaged(["a"], WRONG)
    reports.forget(["a"])
    said()
    reports.read(["a"])

    assert said() == []


def test_the_past_that_waits_is_said_once(said: Said) -> None:
    """A log that can't be read while live events come has a line of its own."""
    reports = Reports("redis://h")
    for _ in range(2):
        reports.unread(["a", "b"], GONE)

    assert said() == ["Readers who come back wait for what redis"]

    reports.read(["a"])
    assert said() == ["redis"]


def test_skipped_messages_are_counted(said: Said) -> None:
    """Each kind of message that is no event is said once and counted always."""
    reports = Reports("redis://h")
    for kind in ("type", "type", "data"):
        reports.skipped("a", Unreadable(kind, "it is no event"))

    assert len(said()) == 2
    assert reports.unreadable == {"type": 2, "data": 1}
