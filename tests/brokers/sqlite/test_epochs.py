"""`sqlite.epochs`: when a log begins anew, and what its old positions mean then."""

from __future__ import annotations

from pathlib import Path

import pytest

from brokers.programs import SHORT_OF_FILES, output_of
from brokers.sqlite.at_hand import (
    Listen,
    Open,
    data,
    epoch_of,
    opened,
    publish,
)
from flask_eventstream.brokers.sqlite import epochs
from flask_eventstream.brokers.sqlite.broker import SqliteBroker
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.event import Event

pytestmark = pytest.mark.real


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
