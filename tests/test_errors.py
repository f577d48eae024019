"""What errors say: what happened, with which value, and what to do."""

from __future__ import annotations

import pytest

from flask_eventstream import errors
from flask_eventstream.errors import (
    BrokerUnavailable,
    EndReason,
    EventStreamError,
    EventTooLarge,
    InvalidChannel,
    InvalidConfig,
    InvalidEvent,
)


@pytest.mark.parametrize("name", sorted(set(errors.__all__) - {"EndReason"}))
def test_one_base_class(name: str) -> None:
    """Whoever catches EventStreamError catches every error of the package."""
    assert issubclass(getattr(errors, name), EventStreamError)


@pytest.mark.parametrize("kind", [InvalidEvent, EventTooLarge, InvalidChannel, InvalidConfig])
def test_wrong_values_are_value_errors(kind: type[Exception]) -> None:
    """What is wrong with a value is also Python's own ValueError."""
    assert issubclass(kind, ValueError)


def test_an_invalid_event_names_field_and_value() -> None:
    """An invalid event's text names the field, the value and the reason; its attributes too."""
    error = InvalidEvent("type", "a\nb", "contains a line feed")

    assert str(error) == r"event type 'a\nb': contains a line feed"
    assert (error.field, error.value, error.why) == ("type", "a\nb", "contains a line feed")


def test_long_values_are_shown_in_part() -> None:
    """A page of data does not fill the log: an error shows at most 60 characters of it."""
    error = InvalidEvent("data", "x" * 10_000, "is bad")

    assert str(error) == f"event data '{'x' * 58}…: is bad"
    assert error.value == "x" * 10_000


def test_too_large_names_size_and_limit() -> None:
    """An event that is too large says how large, which limit, and the key that sets it."""
    error = EventTooLarge("abc", size_bytes=3, limit_bytes=2)

    assert str(error) == (
        "event data 'abc': is 3 bytes, more than the limit of 2: publish a link to the data"
        " instead, or raise SSE_MAX_EVENT_BYTES"
    )
    assert (error.field, error.size_bytes, error.limit_bytes) == ("data", 3, 2)


def test_an_invalid_channel_names_it() -> None:
    """An invalid channel's text names the channel."""
    assert str(InvalidChannel(5, "must be text")) == "channel 5: must be text"


def test_invalid_config_lists_every_problem() -> None:
    """All problems of a configuration stand in one text and in one attribute."""
    error = InvalidConfig(["A is 1", "B is 2"])

    assert str(error) == "Flask-EventStream is not configured correctly: A is 1; B is 2"
    assert error.problems == ("A is 1", "B is 2")


def test_an_unavailable_broker_says_what_to_do() -> None:
    """A broker that is away is named, with the reason and the remedy."""
    error = BrokerUnavailable("sqlite:////x.db", "the disk is full", "make room in /")

    assert str(error) == "broker sqlite:////x.db is unavailable: the disk is full; make room in /"
    assert str(BrokerUnavailable("x", "y")) == "broker x is unavailable: y; try again"


def test_reasons_are_words() -> None:
    """Each reason for a stream's end has a word of its own, fit for logs and metrics."""
    words = [reason.value for reason in EndReason]

    assert len(set(words)) == len(EndReason.__members__)
    assert [word for word in words if not word.replace("-", "").islower()] == []
