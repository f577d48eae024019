"""What answers of Redis mean; without Redis."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from flask_eventstream.brokers.redis.answers import (
    ChannelState,
    LogState,
    RunInfo,
    opening_arguments,
)
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.log.entries import Retention
from flask_eventstream.log.position import Position

EPOCH = "0badcafe"
AGE_MS = 60_000


def state(sequence: int = 1000, past: Mapping[str, int] | None = None) -> LogState:
    return LogState(EPOCH, sequence, past or {}, AGE_MS)


# ---- the server


@pytest.mark.parametrize("version", ["6.2.0", "6.2.21", "7.0.15", "8.4.0", "10.0"])
def test_servers_that_are_new_enough(version: str) -> None:
    """Redis 6.2 and whatever is newer is taken."""
    assert RunInfo.from_info({"redis_version": version, "run_id": "x"}, "redis://h").run_id == "x"


@pytest.mark.parametrize("version", ["2.8.0", "5.0.14", "6.0.20"])
def test_a_server_that_is_too_old(version: str) -> None:
    """An older server is refused with its version and the remedy."""
    with pytest.raises(BrokerUnavailable) as caught:
        RunInfo.from_info({"redis_version": version, "run_id": "x"}, "redis://h")

    assert f"the server is Redis {version}, too old" in caught.value.why
    assert caught.value.remedy == "use Redis 6.2 or newer, or Valkey"


def test_a_server_that_is_still_loading() -> None:
    """While a server reads its file it says that it has none, so what it says is not believed."""
    info = {"redis_version": "7.0.0", "run_id": "x", "aof_enabled": 0, "loading": 1}

    with pytest.raises(BrokerUnavailable, match="still loading"):
        RunInfo.from_info(info, "redis://h")


@pytest.mark.parametrize(("aof", "lossless"), [({"aof_enabled": 1}, True), ({}, False)])
def test_what_survives_a_restart(aof: dict[str, int], *, lossless: bool) -> None:
    """A run counts as lossless only where the server has an append-only file."""
    info = {"redis_version": "7.0.0", "run_id": "x", **aof}

    assert RunInfo.from_info(info, "redis://h").lossless is lossless


@pytest.mark.parametrize(("version", "keeps"), [("6.2.16", True), ("7.0.0", False)])
def test_what_scripts_survive(version: str, *, keeps: bool) -> None:
    """Before Redis 7 a script may be known to the next run of a server, or to its replica."""
    info = {"redis_version": version, "run_id": "x"}

    assert RunInfo.from_info(info, "redis://h").keeps_scripts is keeps


def test_arguments_of_the_opening_script() -> None:
    """Without a retention of its own a publisher keeps what the log has, and brings defaults."""
    run = RunInfo("run", lossless=True)

    own = opening_arguments(run, epoch="e", retention=Retention(5, 1.5), is_cluster=False)
    none = opening_arguments(run, epoch="e", retention=None, is_cluster=True)

    assert own == ["run", "e", "1", "5", "1500", "1000", "86400000", "0"]
    assert none == ["run", "e", "1", "", "", "1000", "86400000", "1"]


# ---- states


def test_no_log() -> None:
    """Where the hash is missing there is no state."""
    assert LogState.parse([None] * 6) is None


def test_the_log_s_state() -> None:
    """The hash gives the epoch, where it stands, and where earlier epochs ended."""
    parsed = LogState.parse([b"epoch123", b"42", b"older123:40 oldest12:7", b"60000", b"run", b"7"])

    assert parsed == LogState("epoch123", 42, {"older123": 40, "oldest12": 7}, 60_000, "run", 7)


def test_nothing_is_known_of_an_unused_channel() -> None:
    """A channel without a hash has no last event, nothing trimmed, and is not ended."""
    assert ChannelState.parse([None, None, None]) == ChannelState(0, 0, 0)


@pytest.mark.parametrize(
    ("position", "sequence"),
    [
        (Position(EPOCH, 0), 0),
        (Position(EPOCH, 1000), 1000),
        (Position(EPOCH, 1001), None),
        (Position("older123", 40), 40),
        (Position("older123", 41), None),
        (Position("unknown1", 1), None),
        (Position("unknown1", 0), None),
    ],
    ids=str,
)
def test_what_a_position_means(position: Position, sequence: int | None) -> None:
    """Positions count up to where their epoch ended, or the log stands; others mean nothing."""
    assert state(past={"older123": 40}).sequence_of(position) == sequence


def test_a_log_that_nobody_has_opened_in_this_run() -> None:
    """Where nothing was lost its positions count; else, or where it is not there, only new ones."""
    log = LogState(EPOCH, 1000, {"older123": 40}, AGE_MS, run="before", began=40)
    lossless = RunInfo("0123456789abcdef", lossless=True)
    lossy = RunInfo("0123456789abcdef", lossless=False)

    absent = lossless.state_of(None)
    unopened = lossy.state_of(log)

    assert lossless.state_of(log) == log
    assert lossy.state_of(LogState(EPOCH, 1, {}, 1, run=lossy.run_id)).epoch == EPOCH
    assert (unopened.sequence, unopened.sequence_of(Position(EPOCH, 1000))) == (1000, None)
    assert unopened.sequence_of(unopened.position(1000)) == 1000
    assert (absent.position(0), absent.sequence) == (Position("01234567", 0), 0)
    assert log.sequence_of(absent.position(0)) is None
    assert Position.parse(str(absent.position(0))) == absent.position(0)
