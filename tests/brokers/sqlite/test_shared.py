"""`sqlite.shared`: one connection for the threads of a process, and none for its children."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from brokers.programs import (
    PUBLISH,
    run_program,
)
from brokers.sqlite.at_hand import (
    Listen,
    Open,
    exit_code,
    in_child,
    is_intact,
    locked,
    opened,
    stored,
    written_by_another,
)
from flask_eventstream.brokers.sqlite import broker as sqlite
from flask_eventstream.brokers.sqlite.broker import SqliteBroker
from flask_eventstream.brokers.sqlite.log import LogFile
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.event import Event
from flask_eventstream.log.entries import UpToDate
from harness.waiting import beside_a_plain_wait, wait_until

pytestmark = pytest.mark.real


def test_a_closed_broker_opens_again(open_broker: Open, path: Path) -> None:
    """Closing frees the file; the next event opens it again."""
    broker = open_broker()
    broker.publish("a", Event("1"))
    broker.close()
    broker.publish("a", Event("2"))

    assert stored(path) == ["1", "2"]


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


def test_a_locked_file_fails_in_time(open_broker: Open, path: Path) -> None:
    """While another program holds the lock publishing fails within its time, then recovers."""
    broker = open_broker(timeout_s=0.2)
    broker.publish("a", Event("1"))
    with locked(path), beside_a_plain_wait(0.2) as plain:
        began_s = time.monotonic()
        with pytest.raises(BrokerUnavailable, match=r"its lock for more than 0\.2 s"):
            broker.publish("a", Event("x"))
        took_s = time.monotonic() - began_s
    broker.publish("a", Event("2"))

    assert 0.15 < took_s < plain.took_s + 0.2
    assert stored(path) == ["1", "2"]


def test_a_file_locked_from_the_start_fails_in_time(open_broker: Open, path: Path) -> None:
    """A process that has not opened the file yet waits no longer for a lock than any other."""
    open_broker().publish("a", Event("1"))
    broker = open_broker(timeout_s=0.2)
    with locked(path), beside_a_plain_wait(0.2) as plain:
        began_s = time.monotonic()
        with pytest.raises(BrokerUnavailable, match="its lock"):
            broker.publish("a", Event("x"))
        took_s = time.monotonic() - began_s

    assert took_s < plain.took_s + 0.2


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

    with locked(path), beside_a_plain_wait(0.2, threads=10) as plain:
        publishers = [threading.Thread(target=publish) for _ in range(10)]
        for thread in publishers:
            thread.start()
        for thread in publishers:
            thread.join()

    assert len(failed) == 10
    # One after the other they would take two seconds.
    assert max(failed) < plain.took_s + 0.2


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
