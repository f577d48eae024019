"""The SQLite broker with threads, forks and other processes, and with everything that breaks."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path

import pytest

from brokers.hearing import Ear, Loop
from brokers.programs import COUNTING, ON_DEMAND, PUBLISH, program, run_program
from brokers.stores import Clock, ClockedSqliteBroker
from flask_eventstream.brokers.sqlite import broker as sqlite
from flask_eventstream.brokers.sqlite import epochs
from flask_eventstream.brokers.sqlite import log as sqlite_log
from flask_eventstream.brokers.sqlite import reader as sqlite_reader
from flask_eventstream.brokers.sqlite.broker import SqliteBroker
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.event import Event
from flask_eventstream.log.entries import Retention
from flask_eventstream.publisher import Publisher
from harness.waiting import wait_until

pytestmark = pytest.mark.real

Listen = Callable[..., Ear]
Open = Callable[..., SqliteBroker]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.db"


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


def remove(path: Path) -> None:
    """Deletes the file as an administrator would, with what SQLite laid beside it."""
    for name in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        name.unlink(missing_ok=True)


def stored(path: Path, channel: str = "a") -> list[str]:
    db = sqlite3.connect(path)
    statement = "SELECT data FROM sse_events WHERE channel = ? ORDER BY sequence"
    rows = db.execute(statement, (channel,)).fetchall()
    db.close()
    return [text for (text,) in rows]


def is_intact(path: Path) -> bool:
    db = sqlite3.connect(path)
    (verdict,) = db.execute("PRAGMA integrity_check").fetchone()
    db.close()
    return bool(verdict == "ok")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    yield
    other.close()


def in_child(task: Callable[[], object]) -> int:
    """Forks, runs `task` in the child and gives the child's process id; a child never returns."""
    child = os.fork()
    if child == 0:
        try:
            task()
        except BaseException as error:  # noqa: BLE001  a child must not go on with the test
            os.write(2, repr(error).encode())
            os._exit(1)
        os._exit(0)
    return child


def exit_code(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def threads() -> int:
    """Threads of this process, also those that `threading` knows nothing of."""
    return len(list(Path("/proc/self/task").iterdir()))


# ---- the broker itself


def test_nothing_is_opened_before_it_is_needed(open_broker: Open, path: Path) -> None:
    """Making a broker touches no disk, so an application may be made where none is."""
    open_broker()

    assert not path.exists()


def test_its_url_leads_to_it(open_broker: Open, path: Path) -> None:
    """The URL of a broker is absolute, wherever the process goes."""
    assert open_broker().url == f"sqlite:///{path}"


def test_a_relative_path_stays_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path is taken from the folder in which the broker was made."""
    monkeypatch.chdir(tmp_path)
    broker = SqliteBroker(Path("here.db"), retention=None, timeout_s=5)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    broker.publish("a", Event("x"))
    broker.close()

    assert stored(tmp_path / "here.db") == ["x"]


def test_a_closed_broker_opens_again(open_broker: Open, path: Path) -> None:
    """Closing frees the file; the next event opens it again."""
    broker = open_broker()
    broker.publish("a", Event("1"))
    broker.close()
    broker.publish("a", Event("2"))

    assert stored(path) == ["1", "2"]


def test_a_publisher_trims_as_the_application_asked(path: Path) -> None:
    """A publisher that knows no retention keeps to what the application stored in the file."""
    clock = Clock()
    app = ClockedSqliteBroker(path, Retention(length=500), clock)
    app.publish("a", Event("x"))
    script = ClockedSqliteBroker(path, None, clock)
    script.publish_many("a", [Event(str(number)) for number in range(2000)])
    clock.advance(60)
    script.publish_many("a", [Event(str(number)) for number in range(700)])

    assert 500 <= len(stored(path)) <= 1400
    app.close()
    script.close()


def test_the_listener_ends_its_thread(open_broker: Open, loop: Loop) -> None:
    """When a listener is stopped its thread ends, and its connection is closed."""
    broker = open_broker()
    before = threads()
    ears = [Ear(loop, broker) for _ in range(5)]
    for ear in ears:
        ear.subscribe("a")
    assert threads() >= before + 5

    for ear in ears:
        ear.stop()

    wait_until(lambda: threads() <= before, what="the threads to end")


@pytest.mark.usefixtures("impatient")
def test_stop_cancels_what_waits_for_the_file(path: Path, loop: Loop) -> None:
    """A replay that waits for a broker that is away is cancelled by `stop`."""
    broker = SqliteBroker(path.parent / "missing" / "events.db", retention=None, timeout_s=1)
    ear = Ear(loop, broker)
    replay = asyncio.run_coroutine_threadsafe(ear.listener.replay(["a"], None), loop.loop)
    ear.stop()

    wait_until(replay.done, what="the replay to be cancelled")
    assert replay.cancelled()


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


def test_no_double_when_a_page_is_newer_than_the_last_look(
    open_broker: Open, listen: Listen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was published between a look and a page is given by the page alone."""
    publisher = open_broker()
    ear = listen(open_broker(), "a")
    (start,) = [publisher.publish("a", Event("0"))]
    ear.wait_heard(1)
    read = sqlite_log.LogFile.read

    def read_late(log: sqlite_log.LogFile, *arguments: object) -> object:
        publisher.publish("a", Event("1"))
        monkeypatch.setattr(sqlite_log.LogFile, "read", read)
        return read(log, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(sqlite_log.LogFile, "read", read_late)
    reader = ear.attach_live("a", after=start)
    publisher.publish("a", Event("2"))

    wait_until(lambda: reader.data[-1:] == ["2"], what="the last event")
    assert reader.data == ["1", "2"]


# ---- other processes


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


def test_going_live_while_processes_publish(open_broker: Open, listen: Listen, path: Path) -> None:
    """Readers that attach while several processes publish have no gap and no double."""
    all_of_it = Retention(length=10_000)
    ear, watcher = listen(open_broker(all_of_it)), listen(open_broker(all_of_it), "a", "b")
    start = ear.replay("a", "b", after=None).position
    chance = random.Random(7)
    with ExitStack() as stack:
        publishers = [stack.enter_context(program(PUBLISH, path, "1000", name)) for name in "xyz"]
        readers = []
        while any(publisher.poll() is None for publisher in publishers):
            after = chance.choice([start, *(entry.position for entry in watcher.heard[-40:])])
            readers.append((after, ear.attach_live(*chance.choice(["a", "b", "ab"]), after=after)))
    watcher.wait_heard(3000)

    assert readers
    for after, reader in readers:
        sequence = int(after.rpartition("-")[2])
        due = [e for e in watcher.heard if e.channel in reader.channels and e.sequence > sequence]
        wait_until(lambda r=reader, d=due: len(r.entries) >= len(d), what="all entries")
        assert [entry.position for entry in due] == [entry.position for entry in reader.entries]
        assert not reader.resets


def test_the_order_is_the_same_in_every_process(
    open_broker: Open, listen: Listen, path: Path
) -> None:
    """Two listeners hear what several processes publish in one order, each publisher's kept."""
    ears = [listen(open_broker(), "a", "b"), listen(open_broker(), "a", "b")]
    with ExitStack() as stack:
        for name in "xyz":
            stack.enter_context(program(PUBLISH, path, "200", name))
        for ear in ears:
            ear.wait_heard(600, within_s=30)

    assert ears[0].data == ears[1].data
    by_publisher = groupby(sorted(ears[0].data, key=lambda text: text[0]), lambda text: text[0])
    for name, texts in by_publisher:
        assert [f"{name}-{number}" for number in range(200)] == list(texts)


def test_many_processes_may_make_the_file_at_once(path: Path) -> None:
    """When several processes find no file, they agree on one and lose nothing."""
    with ExitStack() as stack:
        programs = [stack.enter_context(program(PUBLISH, path, "20", name)) for name in "xyz"]
        for process in programs:
            process.communicate(timeout=60)
            assert process.returncode == 0

    assert len(stored(path, "a") + stored(path, "b")) == 60


def test_a_killed_publisher_leaves_an_intact_log(
    open_broker: Open, listen: Listen, path: Path
) -> None:
    """After SIGKILL in the midst of publishing all that was said to be published is there."""
    ear = listen(open_broker(), "a")
    with program(COUNTING, path) as publisher:
        ear.wait_heard(100, within_s=30)
        publisher.kill()
        assert publisher.stdout
        said = [line for line in publisher.stdout.read().split("\n") if line]
    before = ear.replay("a", after=None).position

    after = open_broker().publish("a", Event("next"))

    assert is_intact(path)
    assert said == stored(path)[: len(said)]
    assert int(after.rpartition("-")[2]) == int(before.rpartition("-")[2]) + 1
    ear.wait_heard_data("next")
    assert stored(path) == ear.data


# ---- forks


def test_a_forked_child_publishes(open_broker: Open, listen: Listen, path: Path) -> None:
    """A child of a process with an open log publishes, the parent too, and the file is intact."""
    broker = open_broker()
    ear = listen(broker, "a")
    broker.publish("a", Event("parent"))

    child = in_child(lambda: broker.publish("a", Event("child")))

    assert exit_code(child) == 0
    broker.publish("a", Event("parent again"))
    ear.wait_heard(3)
    assert ear.data == ["parent", "child", "parent again"] == stored(path)
    assert is_intact(path)


def test_a_child_outlives_its_parents_connection(open_broker: Open, path: Path) -> None:
    """What a child publishes after its parent closed the log is not lost."""
    broker = open_broker()
    broker.publish("a", Event("parent"))
    closed, close = os.pipe()

    def publish_twice() -> None:
        broker.publish("a", Event("child 1"))
        os.read(closed, 1)
        broker.publish("a", Event("child 2"))

    child = in_child(publish_twice)
    wait_until(lambda: "child 1" in stored(path), what="the child's first event")
    broker.close()
    run_program(PUBLISH, path, "1", "another process")
    os.write(close, b"x")

    assert exit_code(child) == 0
    assert stored(path) == ["parent", "child 1", "another process-0", "child 2"]


def test_a_fork_in_the_midst_of_publishing(open_broker: Open, path: Path) -> None:
    """A child that was forked while other threads publish can publish at once."""
    broker = open_broker()
    broker.publish("a", Event("first"))
    over = threading.Event()

    def publish_on() -> None:
        while not over.is_set():
            broker.publish("b", Event("x"))

    publisher = threading.Thread(target=publish_on)
    publisher.start()
    codes = [exit_code(in_child(lambda: broker.publish("a", Event("child")))) for _ in range(10)]
    over.set()
    publisher.join()

    assert codes == [0] * 10
    assert stored(path) == ["first", *["child"] * 10]


def test_a_childs_listener_is_its_own(open_broker: Open, listen: Listen) -> None:
    """Publishing in a child does not touch the parent's listeners, whose threads are not there."""
    broker = open_broker()
    ear = listen(broker, "a")

    child = in_child(lambda: [broker.publish("a", Event("x")), listeners_are_none(broker)])

    assert exit_code(child) == 0
    ear.wait_heard(1)


def listeners_are_none(broker: SqliteBroker) -> None:
    assert broker._listeners == set()


# ---- the file is taken away


def test_publishing_goes_on_when_the_file_was_deleted(open_broker: Open, path: Path) -> None:
    """An event that is published after the file was deleted is in the new file."""
    broker = open_broker()
    broker.publish("a", Event("1"))
    remove(path)
    broker.publish("a", Event("2"))

    assert stored(path) == ["2"]


def test_an_event_is_not_lost_with_the_file(
    open_broker: Open, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that was just being written into a file that is deleted is in the new file."""
    broker = open_broker()
    broker.publish("a", Event("1"))
    append = sqlite_log.LogFile.append

    def append_too_late(log: sqlite_log.LogFile, *arguments: object) -> object:
        monkeypatch.setattr(sqlite_log.LogFile, "append", append)
        remove(path)
        return append(log, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(sqlite_log.LogFile, "append", append_too_late)
    broker.publish("a", Event("2"))

    assert stored(path) == ["2"]


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


def test_positions_of_a_deleted_file_are_unknown(
    open_broker: Open, listen: Listen, path: Path
) -> None:
    """A position of the deleted file is reset, although the new one has come as far."""
    publisher = open_broker()
    position = publisher.publish("a", Event("1"))
    remove(path)
    for text in ("1", "2", "3"):
        publisher.publish("a", Event(text))

    assert listen(open_broker()).replay("a", after=position).gone == {"a"}


def test_every_process_moves_to_the_new_file(open_broker: Open, listen: Listen, path: Path) -> None:
    """Processes that had the deleted file open meet again in the new one."""
    ear = listen(open_broker(), "a")
    with program(COUNTING, path) as publisher:
        ear.wait_heard(20, within_s=30)
        remove(path)
        heard = len(ear.heard)
        ear.wait_heard(heard + 100, within_s=30)
        publisher.kill()
        publisher.wait()
    open_broker().publish("a", Event("end"))

    ear.wait_heard_data("end")
    assert is_intact(path)
    in_new_file = stored(path)
    assert in_new_file == ear.data[-len(in_new_file) :]


def test_a_deleted_file_without_its_neighbours(
    open_broker: Open, listen: Listen, path: Path
) -> None:
    """Deleting the file alone, and not what SQLite laid beside it, spoils nothing."""
    publisher = open_broker()
    ear = listen(open_broker(), "a")
    for text in ("1", "2", "3"):
        publisher.publish("a", Event(text))
    ear.wait_heard(3)
    path.unlink()
    publisher.publish("a", Event("4"))

    ear.wait_heard_data("4")
    assert is_intact(path)
    assert stored(path) == ["4"]


def test_another_log_in_the_files_place(open_broker: Open, listen: Listen, path: Path) -> None:
    """When another log is put there, readers are reset and get none of its past."""
    other = path.with_name("other.db")
    run_program(PUBLISH, other, "10", "past")
    publisher = open_broker()
    ear = listen(open_broker(), "a")
    publisher.publish("a", Event("1"))
    ear.wait_heard(1)

    other.replace(path)
    publisher.publish("a", Event("2"))

    ear.wait_heard_data("2")
    assert ear.data == ["1", "2"]
    assert [channels for channels, _ in ear.interruptions] == [None]


def test_a_log_of_an_earlier_boot_in_the_files_place(
    open_broker: Open, listen: Listen, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When a log that no process has open since the start is put there, its past stays past."""
    other = path.with_name("other.db")
    with monkeypatch.context() as patched:
        patched.setattr(epochs, "boot_id", lambda: "an earlier boot")
        Publisher(f"sqlite:///{other}").publish("past", channel="a")
    publisher = open_broker()
    ear = listen(open_broker(), "a")
    publisher.publish("a", Event("1"))
    ear.wait_heard(1)

    other.replace(path)
    publisher.publish("a", Event("2"))

    ear.wait_heard_data("2")
    assert ear.data == ["1", "2"]


def test_a_backup_in_the_files_place(open_broker: Open, listen: Listen, path: Path) -> None:
    """When an older copy is put back, live readers are reset and get what comes then."""
    publisher = open_broker()
    publisher.publish("a", Event("1"))
    publisher.close()
    copy = path.with_name("copy.db")
    shutil.copy(path, copy)
    ear = listen(open_broker(), "a")
    for text in ("2", "3", "4"):
        publisher.publish("a", Event(text))
    ear.wait_heard(3)

    remove(path)
    copy.replace(path)
    publisher.publish("a", Event("5"))

    ear.wait_heard_data("5")
    assert ear.data == ["2", "3", "4", "5"]
    assert [channels for channels, _ in ear.interruptions] == [None]


# ---- the file can't be used


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
def test_a_file_in_the_folders_place(tmp_path: Path, listen: Listen) -> None:
    """When the folder became a file, readers and publishers get over it."""
    folder = tmp_path / "folder"
    folder.mkdir()
    broker = SqliteBroker(folder / "events.db", retention=None, timeout_s=5)
    ear = listen(broker, "a")
    broker.publish("a", Event("1"))
    ear.wait_heard(1)
    shutil.rmtree(folder)
    folder.touch()
    with pytest.raises(BrokerUnavailable, match=f"create {folder} "):
        broker.publish("a", Event("x"))
    folder.unlink()
    folder.mkdir()
    broker.publish("a", Event("2"))

    ear.wait_heard_data("2")
    broker.close()


def test_a_locked_file_fails_in_time(open_broker: Open, path: Path) -> None:
    """While another program holds the lock publishing fails within its time, then recovers."""
    broker = open_broker(timeout_s=0.2)
    broker.publish("a", Event("1"))
    began_s = time.monotonic()
    with locked(path), pytest.raises(BrokerUnavailable, match=r"its lock for more than 0\.2 s"):
        broker.publish("a", Event("x"))
    took_s = time.monotonic() - began_s
    broker.publish("a", Event("2"))

    assert 0.15 < took_s < 2
    assert stored(path) == ["1", "2"]


def test_a_file_locked_from_the_start_fails_in_time(open_broker: Open, path: Path) -> None:
    """A process that has not opened the file yet waits no longer for a lock than any other."""
    open_broker().publish("a", Event("1"))
    broker = open_broker(timeout_s=0.2)
    began_s = time.monotonic()
    with locked(path), pytest.raises(BrokerUnavailable, match="its lock"):
        broker.publish("a", Event("x"))

    assert time.monotonic() - began_s < 2


def test_threads_share_the_time(open_broker: Open, path: Path) -> None:
    """However many threads wait for a locked file, each gives up after its own time."""
    broker = open_broker(timeout_s=0.2)
    broker.publish("a", Event("1"))
    failed: list[float] = []

    def publish() -> None:
        began_s = time.monotonic()
        with pytest.raises(BrokerUnavailable):
            broker.publish("a", Event("x"))
        failed.append(time.monotonic() - began_s)

    with locked(path):
        publishers = [threading.Thread(target=publish) for _ in range(10)]
        for thread in publishers:
            thread.start()
        for thread in publishers:
            thread.join()

    assert len(failed) == 10
    assert max(failed) < 2


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


def test_a_full_disk_fails_and_recovers(open_broker: Open, path: Path) -> None:
    """When the disk is full publishing says so, and works again when there is room."""
    broker = open_broker()
    broker.publish("a", Event("1"))
    assert broker._writing._log
    broker._writing._log._db.execute("PRAGMA max_page_count = 1")  # what is there stays
    with pytest.raises(BrokerUnavailable, match=f"the disk is full; make room in {path.parent}"):
        broker.publish("a", Event("x" * 100_000))
    broker.publish("a", Event("2"))

    assert stored(path) == ["1", "2"]


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
