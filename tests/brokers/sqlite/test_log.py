"""The log in a SQLite file, without threads and loops: what is kept, proven and refused."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from brokers.stores import Clock
from flask_eventstream.brokers.sqlite import epochs, file
from flask_eventstream.brokers.sqlite.log import LogFile
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.event import Event
from flask_eventstream.log.entries import Retention

pytestmark = pytest.mark.real

Open = Callable[..., LogFile]


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


def publish(log: LogFile, channel: str, *texts: str) -> list[str]:
    return [position for text in texts for position in log.append(channel, [Event(text)])]


def numbered(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def stored(path: Path, channel: str = "a") -> list[str]:
    """What lies in the file, whatever readers may get of it."""
    with sqlite3.connect(path) as db:
        rows = db.execute("SELECT data FROM sse_events WHERE channel = ?", (channel,)).fetchall()
    db.close()
    return [text for (text,) in rows]


def data(entries: Any) -> list[str]:
    return [entry.event.data for entry in entries if entry.event]


# ---- surviving


def test_a_log_outlives_its_connections(open_log: Open) -> None:
    """Events and positions are valid for whoever opens the file later."""
    log = open_log()
    first, _ = publish(log, "a", "1", "2")
    log.close()

    replay = open_log().read(["a"], first)

    assert (data(replay.entries), replay.gone) == (["2"], frozenset())


def test_another_boot_keeps_the_positions_up_to_its_head(
    open_log: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the machine started again, a position that the file can still vouch for resumes."""
    log = open_log()
    first, second = publish(log, "a", "1", "2")
    log.close()
    monkeypatch.setattr(epochs, "boot_id", lambda: "another boot")
    log = open_log()
    publish(log, "a", "3")

    assert data(log.read(["a"], first).entries) == ["2", "3"]
    assert data(log.read(["a"], second).entries) == ["3"]
    assert not log.read(["a"], first).gone


def test_another_boot_refuses_positions_that_a_power_cut_took(
    open_log: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A position of an earlier boot beyond what the file kept is reset, not taken for a new one."""
    log = open_log()
    _, lost = publish(log, "a", "1", "2")
    with log._writing():
        log._db.execute("DELETE FROM sse_events WHERE data = '2'")
        log._db.execute("UPDATE sqlite_sequence SET seq = 1")
    log.close()
    monkeypatch.setattr(epochs, "boot_id", lambda: "another boot")
    log = open_log()
    publish(log, "a", "3", "4")

    assert log.read(["a"], lost).gone == {"a"}


def test_another_boot_gives_other_ids(open_log: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions of two boots can't be mistaken for each other."""
    names = {open_log().epoch}
    monkeypatch.setattr(epochs, "boot_id", lambda: "another boot")
    names |= {open_log().epoch, open_log().epoch}

    assert len(names) == 2


def test_without_a_boot_id_the_epoch_stays(open_log: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system names no boot, opening the file again begins no new epoch."""
    monkeypatch.setattr(epochs, "boot_id", str)

    assert open_log().epoch == open_log().epoch


def test_a_copy_in_the_files_place_begins_an_epoch(open_log: Open, path: Path) -> None:
    """Positions given after a backup was made are refused when it was put back."""
    log = open_log()
    (kept,) = publish(log, "a", "1")
    log.close()
    copy = path.with_suffix(".copy")
    copy.write_bytes(path.read_bytes())
    log = open_log()
    _, lost = publish(log, "a", "2", "3")
    log.close()
    copy.replace(path)
    log = open_log()
    publish(log, "a", "4", "5", "6")

    assert log.read(["a"], lost).gone == {"a"}
    assert data(log.read(["a"], kept).entries) == ["4", "5", "6"]


# ---- retention


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


def test_what_trimming_removed_is_reported(open_log: Open, clock: Clock) -> None:
    """A reader whose next events left the file is told so, and one behind them is not."""
    log = open_log(Retention(length=100))
    ids = publish(log, "a", *numbered(100))
    clock.advance(11)
    ids += publish(log, "a", *numbered(300))

    assert log.read(["a"], ids[0]).gone == {"a"}
    assert not log.read(["a"], ids[-101]).gone


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


# ---- news


def test_news_are_what_came_since(open_log: Open) -> None:
    """A look gives the entries of the wanted channels since the last, and where the log stands."""
    log = open_log()
    publish(log, "a", "1")
    since = log.head
    publish(log, "a", "2")
    publish(log, "b", "3")

    news = log.news({"a"}, since)

    assert data(news.entries) == ["2"]
    assert (news.gone, news.head, news.more) == (frozenset(), log.head, False)


def test_many_news_come_in_parts(open_log: Open) -> None:
    """A look after a long time gives all of it, part by part."""
    log = open_log(Retention(length=5000))
    log.append("a", [Event(text) for text in numbered(2500)])
    since, seen, more = 0, [], True
    while more:
        news = log.news({"a"}, since)
        seen += data(news.entries)
        since, more = news.head, news.more

    assert numbered(2500) == seen


def test_trimmed_news_are_reported(open_log: Open, clock: Clock) -> None:
    """A look that comes too late for some entries says of which channels they were.

    Also when an old event of a calm channel still lies before them in the file.
    """
    log = open_log(Retention(length=10))
    publish(log, "calm", "0")
    since = log.head
    for _ in range(3):
        publish(log, "busy", *numbered(100))
        clock.advance(11)

    news = log.news({"busy", "calm"}, since)

    assert news.gone == {"busy"}
    assert log.news({"calm"}, since).gone == frozenset()


def test_news_are_reported_gone_once(open_log: Open) -> None:
    """When everything since the last look was removed, it is reported by one look and no more."""
    log = open_log(Retention(age_s=60))
    publish(log, "keep", "x")
    since = log.head
    publish(log, "a", *numbered(3))
    with log._writing():
        log._trimming._remove("a", log.head)

    first = log.news({"a"}, since)
    second = log.news({"a"}, first.head)

    assert (first.gone, second.gone) == ({"a"}, frozenset())
    assert first.head == log.head


def test_connections_may_make_the_file_at_once(tmp_path: Path) -> None:
    """Whoever opens a file that another is just making waits for it, and never fails."""
    failures: list[BrokerUnavailable] = []

    def open_one(path: Path, start: threading.Barrier) -> None:
        start.wait(10)
        try:
            LogFile(path, retention=None, busy_s=5).close()
        except BrokerUnavailable as error:
            failures.append(error)

    for number in range(50):
        made, start = tmp_path / f"{number}.db", threading.Barrier(4)
        threads = [threading.Thread(target=open_one, args=(made, start)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert failures == []


# ---- rows that others wrote


def test_a_row_that_can_not_be_sent_is_passed_over(open_log: Open) -> None:
    """What another program wrote into the table and no event stream can carry is left out."""
    log = open_log()
    (start,) = publish(log, "a", "1")
    insert = "INSERT INTO sse_events (channel, at_ms, data, type) VALUES ('a', ?, ?, ?)"
    with log._writing():
        for text, kind in (("x", "two\nlines"), (b"bytes", None), ("fine", None)):
            log._db.execute(insert, (log._now_ms(), text, kind))

    assert data(log.read(["a"], start).entries) == ["fine"]
    assert data(log.news({"a"}, 1).entries) == ["fine"]


# ---- faults


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


def test_several_events_are_appended_all_or_none(open_log: Open, path: Path) -> None:
    """When one of several events finds no room, none of them is in the log."""
    log = open_log()
    (pages,) = log._db.execute("PRAGMA page_count").fetchone()
    log._db.execute(f"PRAGMA max_page_count = {pages + 2}")

    with pytest.raises(BrokerUnavailable):
        log.append("a", [Event("1"), Event("x" * 100_000)])

    assert stored(path) == []


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


# ---- the oldest SQLite


def test_nothing_is_said_that_the_oldest_sqlite_does_not_know() -> None:
    """No statement uses what came after SQLite 3.24, which the systems that we name still have."""
    rooms = Path(file.__file__).parent.glob("*.py")
    said = " ".join(room.read_text(encoding="utf-8") for room in rooms)
    younger = (
        *("RETURNING", "STRICT", " OVER ", "GENERATED", "MATERIALIZED", "NULLS ", "DISTINCT FROM"),
        *("RENAME COLUMN", "DROP COLUMN", "VACUUM INTO", "->>", "iif(", "unixepoch", "FILTER ("),
    )

    assert [word for word in younger if word in said] == []
    assert file.OLDEST == (3, 24, 0)
