"""Reading channels inside a process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flask_eventstream.brokers import Broker, Inbox, Listener, broker_from_url
from flask_eventstream.event import Event
from flask_eventstream.hub.tail import Gap, read_entries
from flask_eventstream.hub.thread import hub_thread
from flask_eventstream.log.entries import Entry
from harness.waiting import wait_until

pytestmark = pytest.mark.real


@pytest.fixture(params=["memory", "sqlite"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    """A log of each kind that needs no server."""
    url = {"memory": "memory://", "sqlite": f"sqlite:///{tmp_path}/events.db"}[request.param]
    broker = broker_from_url(url, retention=None, timeout_s=5)
    yield broker
    broker.close()


def shown(entry: Entry | Gap) -> tuple[str, str | None]:
    assert isinstance(entry, Entry)
    return entry.channel, entry.event.data if entry.event else None


def test_nothing_is_missed_from_the_start_on(broker: Broker) -> None:
    """What is published as soon as reading has begun is read; what came before is not."""
    broker.publish("a", Event("before"))
    entries = read_entries(broker, ["a"])
    broker.publish("a", Event("after"))

    assert shown(next(entries)) == ("a", "after")

    entries.close()  # type: ignore[attr-defined]


def test_only_the_named_channels_are_read(broker: Broker) -> None:
    """Events of the named channels come in the order of the log, those of others not at all."""
    entries = read_entries(broker, ["a", "b"])
    for channel in "acba":
        broker.publish(channel, Event(channel))
    broker.end("b")

    found = [shown(next(entries)) for _ in range(4)]

    assert found == [("a", "a"), ("b", "b"), ("a", "a"), ("b", None)]

    entries.close()  # type: ignore[attr-defined]


def test_a_wait_is_no_end(broker: Broker) -> None:
    """A reader to whom nothing comes goes on waiting."""
    found: list[tuple[str, str | None]] = []
    entries = read_entries(broker, ["a"])
    reader = threading.Thread(target=lambda: found.append(shown(next(entries))), daemon=True)
    reader.start()
    reader.join(0.4)

    assert found == []

    broker.publish("a", Event("late"))
    reader.join(10)

    assert found == [("a", "late")]

    entries.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("lost", "channels"), [(None, {"a", "b"}), (["b"], {"b"})], ids=["all", "one"]
)
def test_a_loss_is_said(lost: list[str] | None, channels: set[str]) -> None:
    """What a log lost is said in its place, with the channels that it is of."""
    log = broker_from_url("memory://", retention=None, timeout_s=5)
    inboxes: list[Inbox] = []
    listen = log.listen

    def heard(loop: asyncio.AbstractEventLoop, inbox: Inbox) -> Listener:
        inboxes.append(inbox)
        return listen(loop, inbox)

    log.listen = heard  # type: ignore[method-assign]
    entries = read_entries(log, ["a", "b"])
    hub_thread().call(inboxes[0].interrupted, lost, "p-7")

    assert next(entries) == Gap(frozenset(channels), "p-7")

    log.publish("a", Event("x"))
    assert shown(next(entries)) == ("a", "x")

    entries.close()  # type: ignore[attr-defined]


def test_closing_ends_the_reading_side(broker: Broker) -> None:
    """A closed reader listens no more."""
    entries = read_entries(broker, ["a"])
    broker.publish("a", Event("x"))
    next(entries)
    listeners = broker._listeners  # type: ignore[attr-defined]

    assert len(listeners) == 1

    entries.close()  # type: ignore[attr-defined]
    wait_until(lambda: not listeners, what="the listener to be gone")


def test_closing_frees_the_sockets(broker: Broker) -> None:
    """Readers that came and went leave no socket behind."""

    def read() -> None:
        entries = read_entries(broker, ["a"])
        broker.publish("a", Event("x"))
        next(entries)
        entries.close()  # type: ignore[attr-defined]

    def count() -> int:
        links = (os.path.realpath(each) for each in Path("/proc/self/fd").iterdir())
        return sum("socket:" in link for link in links)

    read()  # the hub thread, and what the broker keeps
    before = count()
    for _ in range(10):
        read()

    wait_until(lambda: count() <= before, what="the sockets to be free")


GREENLETS = """
from gevent import monkey; monkey.patch_all()
import os, sys, time
import gevent
from flask_eventstream.brokers import broker_from_url
from flask_eventstream.event import Event
from flask_eventstream.hub.tail import Gap, read_entries

broker = broker_from_url(f"sqlite:///{sys.argv[1]}/events.db", retention=None, timeout_s=5)
entries = read_entries(broker, ["a"])
reading = gevent.spawn(next, entries)
longest = 0.0
for _ in range(50):
    began = time.monotonic()
    gevent.sleep(0.01)
    longest = max(longest, time.monotonic() - began)
assert not reading.dead
broker.publish("a", Event("x"))
print(reading.get(timeout=10).event.data, longest < 0.2)
entries.close()
# gevent before 24.10 has complaints of its own about an interpreter that ends.
sys.stdout.flush()
os._exit(0)
"""


def test_greenlets_go_on_beside_it(tmp_path: Path) -> None:
    """While a greenlet waits for an event the others of its process go on."""
    done = subprocess.run(
        [sys.executable, "-c", GREENLETS, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (done.stdout, done.stderr) == ("x True\n", "")


def test_a_log_that_is_away_is_waited_for(tmp_path: Path) -> None:
    """A reader of a file that can't be made yet begins when it can."""
    folder = tmp_path / "later"
    broker = broker_from_url(f"sqlite:///{folder}/events.db", retention=None, timeout_s=5)
    found: list[tuple[str, str | None]] = []
    began = threading.Event()

    def read() -> None:
        entries = read_entries(broker, ["a"])
        began.set()
        found.append(shown(next(entries)))
        entries.close()  # type: ignore[attr-defined]

    reader = threading.Thread(target=read, daemon=True)
    reader.start()

    assert not began.wait(0.3)

    folder.mkdir()

    assert began.wait(10)

    broker.publish("a", Event("x"))
    reader.join(10)

    assert found == [("a", "x")]

    broker.close()
