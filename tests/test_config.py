"""Settings: read, bounded, and every mistake named at once."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from flask_eventstream.config import Config, unread_keys
from flask_eventstream.errors import InvalidConfig
from flask_eventstream.log.entries import Retention


def problems(**settings: Any) -> tuple[str, ...]:
    with pytest.raises(InvalidConfig) as caught:
        Config.from_mapping(settings)
    return caught.value.problems


def test_nothing_need_be_set() -> None:
    """Without settings the defaults hold, and an application's other settings are its own."""
    assert Config.from_mapping({}) == Config()
    assert Config.from_mapping({"DEBUG": True, "SECRET_KEY": "x"}) == Config()


def test_none_is_not_set() -> None:
    """A setting of None is as if it were missing."""
    settings = dict.fromkeys(["SSE_HEARTBEAT_S", "SSE_MAX_STREAMS", "SSE_BROKER_URL"])

    assert Config.from_mapping(settings) == Config()


@pytest.mark.parametrize(
    ("key", "value", "field", "read"),
    [
        ("SSE_BROKER_URL", " memory:// ", "broker_url", "memory://"),
        ("SSE_HANDOFF", "auto", "handoff", True),
        ("SSE_HANDOFF", "off", "handoff", False),
        ("SSE_HANDOFF", False, "handoff", False),
        ("SSE_HEARTBEAT_S", 5, "heartbeat_s", 5.0),
        ("SSE_HEARTBEAT_S", "0.5", "heartbeat_s", 0.5),
        ("SSE_RETRY_MS", "1000", "retry_ms", 1000),
        ("SSE_RETRY_MS", 0, "retry_ms", 0),
        ("SSE_HISTORY_LENGTH", 5, "history_length", 5),
        ("SSE_HISTORY_AGE_S", 1.5, "history_age_s", 1.5),
        ("SSE_MAX_EVENT_BYTES", 100.0, "max_event_bytes", 100),
        ("SSE_MAX_BUFFER_BYTES", 2048, "max_buffer_bytes", 2048),
        ("SSE_STREAM_LIFETIME_S", 0, "stream_lifetime_s", 0.0),
        ("SSE_MAX_STREAMS", 10, "max_streams", 10),
        ("SSE_MAX_CHANNELS", 1, "max_channels", 1),
        ("SSE_PUBLISH_TIMEOUT_S", 0.01, "publish_timeout_s", 0.01),
        ("SSE_PUBLIC", True, "public", True),
        ("SSE_PUBLIC", "True", "public", True),
        ("SSE_PUBLIC", "0", "public", False),
    ],
)
def test_each_key_sets_its_field(key: str, value: Any, field: str, read: Any) -> None:
    """A setting is read as a number or as text, which is how it comes from the environment."""
    config = Config.from_mapping({key: value})

    assert (getattr(config, field), type(getattr(config, field))) == (read, type(read))
    assert dataclasses.replace(Config(), **{field: read}) == config


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("SSE_RETRY_MS", -1, "-1, but must be a whole number of milliseconds, 0 to 3600000"),
        ("SSE_RETRY_MS", 1.5, "1.5, but must be a whole number of milliseconds, 0 to 3600000"),
        ("SSE_RETRY_MS", "x", "'x', but must be a whole number of milliseconds, 0 to 3600000"),
        ("SSE_RETRY_MS", "nan", "'nan', but must be a whole number of milliseconds, 0 to 3600000"),
        ("SSE_RETRY_MS", "inf", "'inf', but must be a whole number of milliseconds, 0 to 3600000"),
        ("SSE_RETRY_MS", True, "True, but must be a whole number of milliseconds, 0 to 3600000"),
        ("SSE_RETRY_MS", [], "[], but must be a whole number of milliseconds, 0 to 3600000"),
        ("SSE_HEARTBEAT_S", 0, "0, but must be seconds, 0.05 to 3600"),
        ("SSE_HEARTBEAT_S", "nan", "'nan', but must be seconds, 0.05 to 3600"),
        ("SSE_HEARTBEAT_S", "", "'', but must be seconds, 0.05 to 3600"),
        ("SSE_HANDOFF", "on", "'on', but must be 'auto' or 'off'"),
        ("SSE_BROKER_URL", " ", "' ', but must be a URL such as sqlite:///events.db"),
        ("SSE_BROKER_URL", 5, "int, but must be a URL such as sqlite:///events.db"),
        ("SSE_PUBLIC", "maybe", "'maybe', but must be True or False"),
        ("SSE_PUBLIC", 2, "2, but must be True or False"),
        ("SSE_MAX_STREAMS", 0, "0, but must be a whole number of streams, 1 to 10000000"),
    ],
)
def test_mistakes_name_key_value_and_bounds(key: str, value: Any, text: str) -> None:
    """A value that makes no sense is named with its key and with what it must be."""
    assert problems(**{key: value}) == (f"{key} is {text}",)


def test_all_mistakes_are_reported_together() -> None:
    """Whoever has three mistakes reads of all three at once."""
    found = problems(SSE_RETRY_MS="soon", SSE_HEARTBEAT_S=0, SSE_HANDOFF="maybe")

    assert {problem.split()[0] for problem in found} == {
        "SSE_RETRY_MS",
        "SSE_HEARTBEAT_S",
        "SSE_HANDOFF",
    }


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("SSE_HEARTBEATS", "it is SSE_HEARTBEAT_S"),
        ("SSE_CHANNEL", "it is SSE_MAX_CHANNELS"),
        ("SSE_RETRY", "it is SSE_RETRY_MS"),
        ("SSE_HEARTBEAT", "it is SSE_HEARTBEAT_S"),
        ("SSE_BROKER", "it is SSE_BROKER_URL"),
        ("SSE_TIMEOUT_S", "it is SSE_PUBLISH_TIMEOUT_S"),
        ("SSE_URL", "it is SSE_BROKER_URL"),
        ("SSE_REDIS_PASSWORD", "it belongs into SSE_BROKER_URL"),
    ],
)
def test_a_slip_is_no_mistake_but_recognised(key: str, meant: str) -> None:
    """A key that is nearly one of ours stops nothing; a warning names it and what was meant."""
    (warning,) = unread_keys({key: "secret", "SSE_RETRY_MS": 5, "SSE_REDIS_HOST": "h"})

    assert Config.from_mapping({key: "secret"}) == Config()
    assert warning.startswith(f"{key} is not read: ")
    assert meant in warning
    assert "secret" not in warning


def test_other_keys_with_our_prefix_are_left_alone() -> None:
    """Settings of an application's own that begin with SSE_ and are like none of ours are fine."""
    own = {"SSE_OF_MY_OWN": 1, "SSE_KMS_KEY_ID": "x", "SSEARCH": 1, 5: 5}

    assert list(unread_keys(own)) == []  # type: ignore[arg-type]  # a key may be anything
    assert Config.from_mapping({"SSE_OF_MY_OWN": 1}) == Config()


@pytest.mark.parametrize("value", [b"redis://:hunter2@h", ["redis://:hunter2@h"]])
def test_no_password_is_shown(value: object) -> None:
    """A URL is shown neither by a mistake nor by the configuration: it may have a password."""
    (problem,) = problems(SSE_BROKER_URL=value)

    assert "hunter2" not in problem
    assert "hunter2" not in repr(Config.from_mapping({"SSE_BROKER_URL": "redis://:hunter2@h"}))


def test_retention_is_length_and_age() -> None:
    """The history's settings make the retention that a broker is given."""
    config = Config.from_mapping({"SSE_HISTORY_LENGTH": 5, "SSE_HISTORY_AGE_S": 60})

    assert config.retention == Retention(length=5, age_s=60)


def test_settings_can_not_be_changed() -> None:
    """A configuration that was read stays as it is."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().retry_ms = 5  # type: ignore[misc]


# ---- keys of the older extensions


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({"REDIS_URL": "redis://a"}, "redis://a"),
        ({"SSE_REDIS_URL": "redis://b", "REDIS_URL": "redis://a"}, "redis://b"),
        ({"SSE_REDIS_HOST": "h"}, "redis://h:6379/0"),
        ({"SSE_REDIS_PORT": 1234}, "redis://localhost:1234/0"),
        ({"SSE_REDIS_HOST": "h", "SSE_REDIS_PORT": "1", "SSE_REDIS_DB": 2}, "redis://h:1/2"),
        ({"SSE_BROKER_URL": "memory://", "REDIS_URL": "redis://a"}, "memory://"),
    ],
)
def test_older_keys_name_the_broker(settings: dict[str, Any], url: str) -> None:
    """The older extensions' keys are read in their own order, and ours goes before them."""
    assert Config.from_mapping(settings).broker_url == url


def test_older_keys_are_checked_too() -> None:
    """A port that is none is reported with its own key."""
    assert problems(SSE_REDIS_PORT="x") == (
        "SSE_REDIS_PORT is 'x', but must be a whole number of the server's port, 1 to 65535",
    )
