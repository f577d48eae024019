"""`sqlite.file`: a file that is missing, damaged, locked, full or somebody else's."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path

import pytest

from brokers.sqlite.at_hand import (
    Open,
    data,
    modes,
    publish,
    stored,
)
from flask_eventstream.brokers.sqlite.broker import SqliteBroker
from flask_eventstream.brokers.sqlite.log import LogFile
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.event import Event
from flask_eventstream.log.entries import Retention

pytestmark = pytest.mark.real


def test_garbage_is_no_log(open_log: Open, path: Path) -> None:
    """A file of something else is refused, with what to do, and left as it is."""
    garbage = b"this is no database, " * 1000
    path.write_bytes(garbage)

    with pytest.raises(BrokerUnavailable, match="no SQLite database, or is damaged; move it away"):
        open_log()
    assert path.read_bytes() == garbage


def test_a_damaged_log_is_named(open_log: Open, path: Path) -> None:
    """A log whose pages were overwritten is refused as damaged, and not read wrongly."""
    log = open_log(Retention(length=100_000))
    log.append("a", [Event("x" * 500) for _ in range(200)])
    log.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * (size - 4096))

    with pytest.raises(BrokerUnavailable, match="the file is damaged; move it away"):
        open_log().read(["a"], None)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    """Where the folder is missing, the error says which one to create."""
    folder = tmp_path / "missing"

    with pytest.raises(BrokerUnavailable, match=f"can't be opened or made; create {folder} "):
        LogFile(folder / "events.db", retention=None, busy_s=1)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    """A path that leads to a folder is an error of the same kind."""
    with pytest.raises(BrokerUnavailable, match="can't be opened or made"):
        LogFile(tmp_path, retention=None, busy_s=1)


def test_a_file_that_can_not_be_written_is_named(open_log: Open) -> None:
    """Where SQLite may only read, the error says that writing must be allowed."""
    log = open_log()
    log._db.execute("PRAGMA query_only = ON")  # what a missing right does, also for root

    with pytest.raises(BrokerUnavailable, match="the file can't be written; let this user write"):
        publish(log, "a", "x")


def test_a_full_disk_is_named(open_log: Open, path: Path) -> None:
    """When there is no room the error says so, the event is not kept, and the log goes on."""
    log = open_log()
    publish(log, "a", "1")
    (pages,) = log._db.execute("PRAGMA page_count").fetchone()
    log._db.execute(f"PRAGMA max_page_count = {pages + 2}")

    with pytest.raises(BrokerUnavailable, match=f"the disk is full; make room in {path.parent}"):
        publish(log, "a", "x" * 100_000)
    publish(log, "a", "2")

    assert stored(path) == ["1", "2"]


@pytest.mark.parametrize("begin", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_a_locked_file_is_waited_for_and_named(open_log: Open, path: Path, begin: str) -> None:
    """While another program holds the lock, appending fails after the given time, then recovers."""
    log = open_log(busy_s=0.05)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute(begin)

    with pytest.raises(BrokerUnavailable, match=r"held its lock for more than 0\.05 s"):
        publish(log, "a", "x")
    other.close()
    publish(log, "a", "y")

    assert stored(path) == ["y"]


def test_a_locked_file_can_be_read(open_log: Open, path: Path) -> None:
    """While another program writes, readers wait for nothing."""
    log = open_log(busy_s=0.05)
    (start, _) = publish(log, "a", "1", "2")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    assert data(log.read(["a"], start).entries) == ["2"]
    other.close()


@pytest.mark.usefixtures("umask")
def test_the_file_is_for_its_user_alone(broker: SqliteBroker, path: Path) -> None:
    """Whatever the umask, nobody else may read the log, nor what SQLite lays beside it."""
    broker.publish("a", Event("x"))

    assert modes(path) == {0o600}


@pytest.mark.usefixtures("umask")
def test_the_file_is_private_where_no_node_can_be_made(
    broker: SqliteBroker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the system or the disk refuses the first way of making a file."""

    def refuse(*_arguments: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "mknod", refuse)
    broker.publish("a", Event("x"))

    assert modes(path) == {0o600}


@pytest.mark.usefixtures("umask")
def test_rights_that_were_given_stay(broker: SqliteBroker, path: Path) -> None:
    """A file that an administrator made for a group keeps its rights."""
    path.touch()
    path.chmod(0o660)

    broker.publish("a", Event("x"))

    assert modes(path) == {0o660}


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
def test_no_link_is_followed(broker: SqliteBroker, path: Path, suffix: str) -> None:
    """A symbolic link in the file's place, or beside it, is refused, and nothing is written."""
    target = path.with_name("target")
    link = Path(f"{path}{suffix}")
    link.symlink_to(target)

    with pytest.raises(BrokerUnavailable, match="is a symbolic link, which is not followed; name"):
        broker.publish("a", Event("x"))
    assert not target.exists()


def test_a_link_in_the_place_of_a_file_that_is_open(broker: SqliteBroker, path: Path) -> None:
    """A link that takes the file's place later is not followed either."""
    broker.publish("a", Event("x"))
    other = path.with_name("other.db")
    path.rename(other)
    path.symlink_to(other)

    with pytest.raises(BrokerUnavailable, match="symbolic link"):
        broker.publish("a", Event("y"))
