"""`access.grant`: what a reader is given."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from flask_eventstream.access.grant import Grant
from flask_eventstream.errors import InvalidGrant

AT = datetime(2030, 1, 1, 12, tzinfo=timezone.utc)


def test_a_grant_of_nothing_special() -> None:
    """A bare grant is a reader without a name, for ever, with the history."""
    assert (Grant().subject, Grant().info, Grant().until, Grant().history) == (
        None,
        None,
        None,
        True,
    )


@pytest.mark.parametrize(("given", "subject"), [("ada", "ada"), (42, "42"), ("ü" * 100, "ü" * 100)])
def test_a_subject_is_text(given: Any, subject: str) -> None:
    """A subject is text, and a number, as primary keys are, becomes text."""
    assert Grant(subject=given).subject == subject


@pytest.mark.parametrize("until", [AT, AT.astimezone(timezone(timedelta(hours=5))), AT.timestamp()])
def test_until_is_a_moment(until: Any) -> None:
    """The end is the same moment in every time zone, in seconds since 1970."""
    assert Grant(until=until).until == AT.timestamp()


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("subject", "", "is empty"),
        ("subject", True, "not bool"),
        ("subject", 1.5, "not float"),
        ("subject", "a\nb", "control character"),
        ("subject", "x" * 201, "longer than 200 bytes"),
        ("subject", "ü" * 101, "longer than 200 bytes"),
        ("until", datetime(2030, 1, 1), "no time zone"),  # noqa: DTZ001  that is the mistake
        ("until", "tomorrow", "seconds since 1970"),
        ("until", float("nan"), "seconds since 1970"),
        ("until", float("inf"), "seconds since 1970"),
        ("until", True, "seconds since 1970"),
        ("info", ["a"], "must be a dict"),
        ("info", {"x": object()}, "can't be made JSON"),
        ("info", {"x": float("nan")}, "can't be made JSON"),
        ("info", {"x": "y" * 1024}, "more than 1024"),
    ],
)
def test_a_mistake_is_named(field: str, value: Any, why: str) -> None:
    """A field that can't be so is refused, with its name and the remedy."""
    with pytest.raises(InvalidGrant, match=why) as caught:
        Grant(**{field: value})

    assert caught.value.field == field


def test_a_log_line_says_nothing_of_a_person() -> None:
    """The text of a grant, as a log line shows it, leaves `info` out."""
    assert "secret" not in repr(Grant(subject="ada", info={"name": "secret"}))
