"""The file of a test, and what opens it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from brokers.sqlite.at_hand import (
    Open,
)
from brokers.stores import Clock
from flask_eventstream.brokers.sqlite import broker as sqlite
from flask_eventstream.brokers.sqlite import reader as sqlite_reader
from flask_eventstream.brokers.sqlite.broker import SqliteBroker
from flask_eventstream.brokers.sqlite.log import LogFile
from flask_eventstream.log.entries import Retention


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


@pytest.fixture
def open_log(path: Path, clock: Clock) -> Iterator[Open]:
    """Opens the test's file, each time with a connection of its own."""
    opened: list[LogFile] = []

    def open_log(retention: Retention | None = None, busy_s: float = 5) -> LogFile:
        opened.append(LogFile(path, retention=retention, busy_s=busy_s, clock=clock))
        return opened[-1]

    yield open_log
    for log in opened:
        log.close()


@pytest.fixture
def open_broker(path: Path) -> Iterator[Open]:
    """Opens the test's file as an application would; each broker is closed at the end."""
    brokers: list[SqliteBroker] = []

    def open_broker(retention: Retention | None = None, timeout_s: float = 5) -> SqliteBroker:
        brokers.append(SqliteBroker(path, retention=retention, timeout_s=timeout_s))
        return brokers[-1]

    yield open_broker
    for broker in brokers:
        broker.close()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reading side tries again soon, so that tests of recovery take little time."""
    monkeypatch.setattr(sqlite_reader, "_RETRY_S", 0.01)
    monkeypatch.setattr(sqlite, "_READ_BUSY_S", 0.05)


@pytest.fixture
def broker(path: Path) -> Iterator[SqliteBroker]:
    broker = SqliteBroker(path, retention=None, timeout_s=5)
    yield broker
    broker.close()


@pytest.fixture
def umask() -> Iterator[None]:
    """Whatever is made here anybody may read and write, unless it says otherwise."""
    before = os.umask(0)
    yield
    os.umask(before)
