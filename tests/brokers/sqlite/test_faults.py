"""A SQLite log that is attacked, starved, locked, or written by somebody else."""

from __future__ import annotations

import errno
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from brokers.hearing import Ear
from brokers.programs import SHORT_OF_FILES, output_of
from brokers.stores import Clock
from flask_eventstream.brokers.sqlite import broker as sqlite
from flask_eventstream.brokers.sqlite import epochs
from flask_eventstream.brokers.sqlite import reader as sqlite_reader
from flask_eventstream.brokers.sqlite.broker import SqliteBroker
from flask_eventstream.brokers.sqlite.log import LogFile
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.event import Event
from flask_eventstream.log.entries import Missed, UpToDate
from harness.waiting import wait_until

pytestmark = pytest.mark.real

Listen = Callable[..., Ear]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


@pytest.fixture
def broker(path: Path) -> Iterator[SqliteBroker]:
    broker = SqliteBroker(path, retention=None, timeout_s=5)
    yield broker
    broker.close()


@contextmanager
def opened(path: Path, **options: Any) -> Iterator[LogFile]:
    log = LogFile(path, **{"retention": None, "busy_s": 5, "clock": Clock(), **options})
    try:
        yield log
    finally:
        log.close()


@contextmanager
def written_by_another(path: Path) -> Iterator[sqlite3.Connection]:
    """Another program's connection, in the midst of writing; what it wrote is committed."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    try:
        yield db
    finally:
        db.execute("COMMIT")
        db.close()


def epoch_of(position: str) -> str:
    return position.rpartition("-")[0]


# ---- epochs


def test_who_is_short_of_descriptors_begins_no_epoch(broker: SqliteBroker, path: Path) -> None:
    """A process that can't open another file fails or publishes, and ends nobody's positions."""
    before = broker.publish("a", Event("before"))

    said = [output_of(SHORT_OF_FILES, path, str(left)) for left in (2, 3, 4)]

    assert said[0].startswith("unavailable")
    assert {epoch_of(each) for each in said if not each.startswith("unavailable")} <= {
        epoch_of(before)
    }
    assert epoch_of(broker.publish("a", Event("after"))) == epoch_of(before)


def test_a_boot_id_that_can_not_be_read_now_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can't be known for want of a descriptor is not guessed: the log is not opened."""

    def starved() -> str:
        raise OSError(24, "Too many open files", "boot_id")

    with opened(path) as log:
        name = log.epoch
    with monkeypatch.context() as patched:
        patched.setattr(epochs, "boot_id", starved)
        with pytest.raises(BrokerUnavailable, match="Too many open files"), opened(path):
            pass
    with opened(path) as log:
        assert log.epoch == name


def test_only_a_missing_boot_id_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system without the file has no boot id; any other error is an error."""
    read = epochs.boot_id.__wrapped__
    monkeypatch.setattr(epochs, "_BOOT_ID", tmp_path / "missing")
    assert read() == ""

    monkeypatch.setattr(epochs, "_BOOT_ID", tmp_path)
    with pytest.raises(IsADirectoryError):
        read()


def test_an_ended_epoch_is_left_for_the_new_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process whose epoch another one ended publishes and reads in the new one, without loss."""
    with opened(path) as first:
        (old,) = first.append("a", [Event("1")])
        monkeypatch.setattr(epochs, "boot_id", lambda: "another boot")
        with opened(path) as second:
            (new,) = first.append("a", [Event("2")])

            assert epoch_of(new) == second.epoch != epoch_of(old)
            for log in (first, second):
                assert not log.read(["a"], new).gone
                replay = log.read(["a"], old)
                assert (replay.gone, len(replay.entries)) == (frozenset(), 1)


def test_readers_stay_when_an_epoch_ends(
    broker: SqliteBroker, listen: Listen, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Live readers are not reset by an epoch that ended in the file that they have open."""
    ear = listen(broker, "a")
    broker.publish("a", Event("1"))
    ear.wait_heard(1)
    monkeypatch.setattr(epochs, "boot_id", lambda: "another boot")
    with opened(path) as other:
        other.append("a", [Event("2")])
    broker.publish("a", Event("3"))
    ear.wait_heard(3)

    assert ear.data == ["1", "2", "3"]
    assert ear.interruptions == []
    assert not ear.replay("a", after=ear.heard[1].position).gone


def test_who_knows_no_boot_id_takes_no_turns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two containers on one volume, one without a boot id, neither ends the other's epoch."""
    names = set()
    for boot in ("a boot", "", "a boot", ""):
        monkeypatch.setattr(epochs, "boot_id", lambda boot=boot: boot)
        with opened(path) as log:
            names.add(log.epoch)

    assert len(names) == 1


# ---- waiting


def test_to_arrive_waits_for_no_writer(
    broker: SqliteBroker, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While another program holds the lock a stream is opened at once, also by a new process."""
    broker.publish("a", Event("x"))
    monkeypatch.setattr(sqlite, "_READ_BUSY_S", 60.0)
    newcomer = SqliteBroker(path, retention=None, timeout_s=60)
    began_s = time.monotonic()
    with written_by_another(path):
        for each in (broker, newcomer):
            assert isinstance(each.arrive(["a"], None), UpToDate)
    newcomer.close()

    assert time.monotonic() - began_s < 30


def test_a_publish_has_one_deadline(broker: SqliteBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time that a publish waits for other threads is none that it has for the file's lock."""
    broker.publish("a", Event("x"))
    deadlines: list[float] = []
    append = LogFile.append

    def appended(log: LogFile, *arguments: Any) -> list[str]:
        deadlines.append(log._until_s)
        return append(log, *arguments)

    monkeypatch.setattr(LogFile, "append", appended)
    held = threading.Event()

    def hold(_log: LogFile) -> None:
        held.set()
        threading.Event().wait(1.0)

    holder = threading.Thread(target=lambda: broker._writing.use(hold, within_s=5))
    holder.start()
    assert held.wait(10)
    began_s = time.monotonic()
    broker.publish("a", Event("y"))
    holder.join()

    assert deadlines[0] - began_s < 5.5


def test_a_spent_deadline_fails_at_the_lock(path: Path) -> None:
    """Whose time is over when its turn comes fails at once where the file is locked."""
    with opened(path, busy_s=60) as log, written_by_another(path):
        log.wait_until(time.monotonic() - 1)
        began_s = time.monotonic()
        with pytest.raises(BrokerUnavailable, match="held its lock"):
            log.append("a", [Event("x")])

        assert time.monotonic() - began_s < 30


# ---- rows that others wrote


BAD_ROWS = {
    "no UTF-8": "('a', 0, CAST(x'ff' AS TEXT), NULL, NULL, NULL, 0)",
    "bytes": "('a', 0, x'00ff', NULL, NULL, NULL, 0)",
    "two lines": "('a', 0, 'x', 'two' || char(10) || 'lines', NULL, NULL, 0)",
    "an id like a position": "('a', 0, 'x', NULL, '00000000-9', NULL, 0)",
    "no number": "('a', 0, 'x', NULL, NULL, 'soon', 0)",
    "no kind": "('a', 0, 'x', NULL, NULL, NULL, 9)",
    "a negative kind": "('a', 0, 'x', NULL, NULL, NULL, -1)",
    "no data": "('a', 0, NULL, NULL, NULL, NULL, 0)",
    "a bytes channel": "(x'ff', 0, 'x', NULL, NULL, NULL, 0)",
    "a channel that is no UTF-8": "(CAST(x'ff' AS TEXT), 0, 'x', NULL, NULL, NULL, 0)",
}

INSERT = "INSERT INTO sse_events (channel, at_ms, data, type, id, retry, kind) VALUES "


@pytest.mark.parametrize("row", BAD_ROWS.values(), ids=BAD_ROWS)
def test_a_bad_row_costs_itself_alone(
    broker: SqliteBroker, listen: Listen, path: Path, row: str
) -> None:
    """A row that is no event silences no channel, neither live nor in a replay."""
    ear = listen(broker, "a", "b")
    start = broker.publish("a", Event("1"))
    ear.wait_heard(1)
    with written_by_another(path) as db:
        db.execute(INSERT + row.replace(" 0,", f" {time.time_ns() // 1_000_000},", 1))
    broker.publish("a", Event("2"))
    broker.publish("b", Event("3"))

    ear.wait_heard(3)
    assert ear.data == ["1", "2", "3"]
    assert [entry.event for entry in ear.replay("a", "b", after=start).entries] == [
        Event("2"),
        Event("3"),
    ]


def test_bad_rows_are_said_once_and_counted(
    broker: SqliteBroker, listen: Listen, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The log names the first bad row, and no other; all are counted."""
    ear = listen(broker, "a")
    for number in range(3):
        with written_by_another(path) as db:
            db.execute(INSERT + BAD_ROWS["no UTF-8"])
        broker.publish("a", Event(str(number)))
        ear.wait_heard(number + 1)

    (said,) = [r.getMessage() for r in caplog.records if "passed over" in r.getMessage()]
    assert "row 1 of sse_events: event data" in said
    assert ear.listener._reader.skipped == 3  # type: ignore[attr-defined]


@pytest.mark.parametrize("at", ["'never'", "x'ff'", "9e999", "-1"])
def test_a_bad_time_stops_nobody(broker: SqliteBroker, listen: Listen, path: Path, at: str) -> None:
    """An event with a time that is none is no error for readers, nor for those who publish."""
    ear = listen(broker, "a")
    start = broker.publish("a", Event("1"))
    with written_by_another(path) as db:
        db.execute(INSERT + f"('a', {at}, 'bad', NULL, NULL, NULL, 0)")
    broker.publish_many("a", [Event(str(number)) for number in range(2, 520)])

    ear.wait_heard(519)
    data = [entry.event.data for entry in ear.replay("a", after=start).entries if entry.event]
    assert "2" in data
    assert broker.arrive(["a"], start) == Missed()


def test_no_position_is_ahead_of_the_log(broker: SqliteBroker, listen: Listen, path: Path) -> None:
    """Who comes back from a row that somebody wrote far ahead is not refused."""
    ear = listen(broker, "a")
    broker.publish("a", Event("1"))
    with written_by_another(path) as db:
        db.execute(
            "INSERT INTO sse_events (sequence, channel, at_ms, data) VALUES (9999,'a',0,'x')"
        )
        db.execute("DELETE FROM sqlite_sequence")
    ear.wait_heard(2)

    assert not ear.replay("a", after=ear.heard[1].position).gone


def test_a_defect_is_logged_and_the_thread_goes_on(
    broker: SqliteBroker,
    listen: Listen,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An error that nobody thought of is in the log with its traceback; readers miss nothing."""
    monkeypatch.setattr(sqlite_reader, "_RETRY_S", 0.01)
    ear = listen(broker, "a")
    news = LogFile.news

    def broken(*_arguments: Any) -> Any:
        monkeypatch.setattr(LogFile, "news", news)
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(LogFile, "news", broken)
    broker.publish("a", Event("x"))

    ear.wait_heard(1)
    (said,) = [record for record in caplog.records if "met a defect" in record.getMessage()]
    assert said.exc_info is not None


# ---- what an id costs


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


# ---- rights


@pytest.fixture
def umask() -> Iterator[None]:
    """Whatever is made here anybody may read and write, unless it says otherwise."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(path: Path) -> set[int]:
    files = [path, Path(f"{path}-wal"), Path(f"{path}-shm")]
    return {stat.S_IMODE(file.stat().st_mode) for file in files}


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


def test_a_file_of_another_version_is_named(broker: SqliteBroker, path: Path) -> None:
    """A log with other tables is not written to; the error says what to do with it."""
    db = sqlite3.connect(path)
    for table in ("sse_log (one INTEGER)", "sse_epochs (epoch TEXT, last INTEGER)"):
        db.execute(f"CREATE TABLE {table}")
    db.close()

    with pytest.raises(BrokerUnavailable, match=r"another version .* made the file; move it away"):
        broker.publish("a", Event("x"))


# ---- listeners


def test_a_listener_whose_loop_is_gone_is_forgotten(broker: SqliteBroker, listen: Listen) -> None:
    """Nobody is woken for ever whose loop was closed without a word."""
    ear = listen(broker, "a")
    reader = ear.listener._reader  # type: ignore[attr-defined]

    def closed(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("Event loop is closed")

    reader._loop = type("Closed", (), {"call_soon_threadsafe": staticmethod(closed)})()
    broker.publish("a", Event("x"))

    wait_until(lambda: not broker._listeners, what="the listener to be forgotten")
