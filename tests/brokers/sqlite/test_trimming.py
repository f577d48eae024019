"""`sqlite.trimming`: what the file keeps, and what it lets go."""

from __future__ import annotations

from pathlib import Path

import pytest

from brokers.sqlite.at_hand import Open, data, numbered, publish, stored
from brokers.stores import Clock
from flask_eventstream.log.entries import Retention

pytestmark = pytest.mark.real


def test_the_file_remembers_the_retention(open_log: Open) -> None:
    """Who opens the file without a retention gets the one that the application asked for."""
    open_log(Retention(length=7, age_s=5))
    log = open_log(None)
    ids = publish(log, "a", *numbered(20))

    assert data(log.read(["a"], ids[0]).entries) == numbered(20)[-7:]


def test_a_new_retention_replaces_the_old(open_log: Open) -> None:
    """An application that asks for another retention gets it, and the file remembers that."""
    open_log(Retention(length=7))
    open_log(Retention(length=3))

    assert open_log(None)._trimming._retention == Retention(length=3)


def test_a_long_log_is_trimmed(open_log: Open, path: Path, clock: Clock) -> None:
    """The file keeps the history's length and a bounded rest, not everything."""
    log = open_log(Retention(length=100))
    for _ in range(20):
        publish(log, "a", *numbered(100))
        clock.advance(11)

    assert 100 <= len(stored(path)) <= 300


def test_trimming_keeps_the_newest_seconds(open_log: Open, path: Path, clock: Clock) -> None:
    """Events younger than 10 s stay in the file, however many: other processes still look."""
    log = open_log(Retention(length=10))
    publish(log, "a", *numbered(200))
    clock.advance(9)
    publish(log, "a", *numbered(800))

    assert len(stored(path)) == 1000
    clock.advance(2)
    publish(log, "a", *numbered(200))
    assert len(stored(path)) <= 1000


def test_trimming_counts_each_channel_alone(open_log: Open, path: Path, clock: Clock) -> None:
    """A busy channel's trimming takes nothing of a calm one."""
    log = open_log(Retention(length=10))
    publish(log, "calm", *numbered(10))
    for _ in range(10):
        clock.advance(11)
        publish(log, "busy", *numbered(100))

    assert numbered(10) == stored(path, "calm")


def test_old_events_are_swept(open_log: Open, path: Path, clock: Clock) -> None:
    """Events beyond the history's age leave the file as others come, on any channel."""
    log = open_log(Retention(age_s=60))
    publish(log, "old", *numbered(300))
    clock.advance(61)
    publish(log, "new", *numbered(600))

    assert stored(path, "old") == []
    assert numbered(600) == stored(path, "new")


def test_forgotten_channels_raise_the_floor(open_log: Open, clock: Clock) -> None:
    """When a channel was forgotten, a position from before says nothing about it any more."""
    log = open_log(Retention(age_s=60))
    (start,) = publish(log, "other", "x")
    publish(log, "old", *numbered(3))
    clock.advance(61)
    publish(log, "other", *numbered(600))
    clock.advance(60 * 31)
    log = open_log(None)

    assert log.read(["old"], start).gone == {"old"}
    assert not log.read(["old"], *publish(log, "other", "y")).gone


def test_channels_are_remembered_for_thirty_ages(open_log: Open, clock: Clock) -> None:
    """Until then only readers of the channel itself are told that something is gone."""
    log = open_log(Retention(age_s=60))
    (start,) = publish(log, "other", "x")
    publish(log, "old", *numbered(3))
    clock.advance(61)
    publish(log, "other", *numbered(600))
    clock.advance(60 * 28)
    log = open_log(None)

    assert log.read(["old"], start).gone == {"old"}
    assert not log.read(["never used"], start).gone
