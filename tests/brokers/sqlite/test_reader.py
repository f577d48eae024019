"""`sqlite.reader`: the thread that reads, and what may happen to its file."""

from __future__ import annotations

import asyncio
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from brokers.hearing import Ear, Loop
from brokers.programs import (
    ON_DEMAND,
    program,
)
from brokers.sqlite.at_hand import (
    BAD_ROWS,
    INSERT,
    Listen,
    Open,
    locked,
    remove,
    written_by_another,
)
from brokers.stores import Clock, ClockedSqliteBroker
from flask_eventstream.brokers.sqlite import reader as sqlite_reader
from flask_eventstream.brokers.sqlite.broker import SqliteBroker
from flask_eventstream.brokers.sqlite.log import LogFile
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.event import Event
from flask_eventstream.log.entries import Missed, Retention
from harness.waiting import wait_until

pytestmark = pytest.mark.real


@pytest.mark.usefixtures("impatient")
def test_a_replay_waits_for_the_file(path: Path, loop: Loop) -> None:
    """A replay asked for while the folder is missing is answered when it is there."""
    folder = path.parent / "missing"
    broker = SqliteBroker(folder / "events.db", retention=None, timeout_s=1)
    ear = Ear(loop, broker)
    replay = asyncio.run_coroutine_threadsafe(ear.listener.replay(["a"], None), loop.loop)
    folder.mkdir()

    assert not replay.result(10).gone
    ear.stop()


def test_an_event_of_another_process_wakes_readers_soon(
    open_broker: Open, listen: Listen, path: Path
) -> None:
    """A reader hears within moments of what another process published, with nobody to say so."""
    ear = listen(open_broker(), "a")
    delays_ms: list[float] = []
    with program(ON_DEMAND, path) as publisher:
        assert publisher.stdin
        assert publisher.stdout
        assert publisher.stdout.readline() == "ready\n"
        for count in range(1, 101):
            publisher.stdin.write("\n")
            publisher.stdin.flush()
            ear.wait_heard(count)
            delays_ms.append((time.monotonic_ns() - int(ear.data[-1])) / 1e6)

    # The claim is 50 ms; a busy machine that runs tests is given five times as much.
    assert sorted(delays_ms)[98] < 250


def test_readers_hear_that_the_file_was_deleted(
    open_broker: Open, listen: Listen, path: Path
) -> None:
    """After the file was deleted live readers are reset once, and get what comes then."""
    publisher = open_broker()
    ear = listen(open_broker(), "a")
    publisher.publish("a", Event("1"))
    ear.wait_heard(1)

    remove(path)
    publisher.publish("a", Event("2"))
    publisher.publish("a", Event("3"))

    ear.wait_heard_data("3")
    assert ear.data == ["1", "2", "3"]
    assert [channels for channels, _ in ear.interruptions] == [None]


def test_readers_resume_where_the_reset_put_them(
    open_broker: Open, listen: Listen, path: Path
) -> None:
    """The position that a live reset names gives everything after it, without another reset."""
    publisher = open_broker()
    ear = listen(open_broker(), "a")
    publisher.publish("a", Event("1"))
    ear.wait_heard(1)
    remove(path)
    publisher.publish("a", Event("2"))
    ear.wait_heard_data("2")
    ((_, position),) = ear.interruptions

    replay = ear.replay("a", after=position)

    assert [entry.event.data for entry in replay.entries if entry.event] == ["2"]
    assert not replay.gone


@pytest.mark.usefixtures("impatient")
def test_readers_wait_while_the_file_is_damaged(
    open_broker: Open, listen: Listen, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While garbage lies there readers wait; it is logged once; they go on when it is gone."""
    path.write_bytes(b"garbage " * 10_000)
    publisher = open_broker()
    ear = listen(open_broker())
    reader = ear.attach("a")
    wait_until(lambda: caplog.records, what="the complaint")
    with pytest.raises(BrokerUnavailable, match="is damaged"):
        publisher.publish("a", Event("x"))

    path.unlink()
    wait_until(lambda: reader.live, what="the reader to be live")
    publisher.publish("a", Event("y"))

    wait_until(lambda: reader.data == ["y"], what="the event")
    assert len(caplog.records) == 1
    assert "Readers get no events until this is mended" in caplog.text


@pytest.mark.usefixtures("impatient")
def test_live_readers_survive_garbage(open_broker: Open, listen: Listen, path: Path) -> None:
    """Live readers whose file turned to garbage are reset and go on with the new one."""
    publisher = open_broker()
    ear = listen(open_broker(), "a")
    publisher.publish("a", Event("1"))
    ear.wait_heard(1)

    remove(path)
    path.write_bytes(b"garbage " * 10_000)
    with pytest.raises(BrokerUnavailable):
        publisher.publish("a", Event("lost"))
    path.unlink()
    publisher.publish("a", Event("2"))

    ear.wait_heard_data("2")
    assert ear.data == ["1", "2"]
    assert [channels for channels, _ in ear.interruptions] == [None]


@pytest.mark.usefixtures("impatient")
def test_the_folder_comes_and_goes(tmp_path: Path, listen: Listen) -> None:
    """Publishing names the missing folder, and works when it is there, also for readers."""
    folder = tmp_path / "folder"
    broker = SqliteBroker(folder / "events.db", retention=None, timeout_s=5)
    with pytest.raises(BrokerUnavailable, match=f"create {folder} "):
        broker.publish("a", Event("x"))
    folder.mkdir()
    ear = listen(broker, "a")
    broker.publish("a", Event("1"))
    ear.wait_heard(1)
    shutil.rmtree(folder)
    with pytest.raises(BrokerUnavailable, match=f"create {folder} "):
        broker.publish("a", Event("x"))
    folder.mkdir()
    broker.publish("a", Event("2"))

    ear.wait_heard_data("2")
    assert ear.data == ["1", "2"]
    broker.close()


@pytest.mark.usefixtures("impatient")
def test_readers_go_on_while_the_file_is_locked(
    open_broker: Open, listen: Listen, path: Path
) -> None:
    """A lock keeps nobody from reading, and after it everything is heard."""
    publisher = open_broker(timeout_s=0.05)
    start = publisher.publish("a", Event("1"))
    ear = listen(open_broker(), "a")
    with locked(path):
        with pytest.raises(BrokerUnavailable):
            publisher.publish("a", Event("x"))
        assert not ear.replay("a", after=start).gone
    publisher.publish("a", Event("2"))

    ear.wait_heard(1)
    assert ear.data == ["2"]


def test_a_reader_too_slow_for_the_file_is_told(path: Path, listen: Listen) -> None:
    """A reading side that stood still while entries were trimmed reports just those channels."""
    clock = Clock()
    broker = ClockedSqliteBroker(path, Retention(length=10), clock)
    broker.publish("calm", Event("0"))
    ear = listen(broker, "busy", "calm")
    with ear.listener._reader._turn:  # type: ignore[attr-defined]  # it stands still
        for _ in range(3):
            broker.publish_many("busy", [Event(str(number)) for number in range(100)])
            clock.advance(11)
        broker.publish("calm", Event("1"))

    ear.wait_heard_data("1")
    assert [channels for channels, _ in ear.interruptions] == [{"busy"}]
    assert ear.data[-1] == "1"
    broker.close()


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
