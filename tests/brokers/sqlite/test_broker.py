"""The SQLite broker with threads, forks and other processes, and with everything that breaks."""

from __future__ import annotations

import random
import shutil
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path

import pytest

from brokers.programs import COUNTING, PUBLISH, program, run_program
from brokers.sqlite.at_hand import (
    Listen,
    Open,
    is_intact,
    remove,
    stored,
)
from brokers.stores import Clock, ClockedSqliteBroker
from flask_eventstream.brokers.sqlite import epochs
from flask_eventstream.brokers.sqlite import log as sqlite_log
from flask_eventstream.brokers.sqlite.broker import SqliteBroker
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.event import Event
from flask_eventstream.log.entries import Retention
from flask_eventstream.publisher import Publisher
from harness.waiting import wait_until

pytestmark = pytest.mark.real


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
