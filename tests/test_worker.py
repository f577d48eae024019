"""The worker: an application's own code, one thing after the other, never on a thread of ours."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator

import pytest

from flask_eventstream import worker as room
from flask_eventstream.process import on_os_thread, start_os_thread
from flask_eventstream.worker import Worker
from harness.waiting import wait_until


@pytest.fixture
def worker() -> Iterator[Worker]:
    """A worker of the test's own."""
    worker = Worker()
    yield worker
    worker.finish()


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_one_thread_does_it_all_in_order(worker: Worker) -> None:
    """However much is posted at once, one thread runs it, in the order of its coming."""
    done: list[tuple[int, int]] = []
    gate = threading.Event()
    worker.post(gate.wait)
    for number in range(600):
        worker.post(lambda n=number: done.append((n, threading.get_ident())))  # type: ignore[misc]
    gate.set()
    worker.finish()

    assert [number for number, _ in done] == list(range(600))
    assert len({ident for _, ident in done}) == 1
    assert done[0][1] != threading.get_ident()


def test_what_raises_stops_nothing(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    """What a task raises is logged, and the next one runs."""
    done = threading.Event()
    worker.post(lambda: 1 / 0)
    worker.post(done.set)

    assert done.wait(10)
    assert caplog.messages == ["What the application wanted called raised"]


def test_without_a_thread_it_is_done_at_the_end(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no thread can be had a post does not raise; what was posted is done at the end."""
    done: list[int] = []

    def start(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(room, "start_app_thread", start)
    worker.post(lambda: done.append(1))
    worker.post(lambda: done.append(2))

    assert done == []

    worker.finish()

    assert done == [1, 2]


def test_the_end_waits_no_longer_than_it_is_told(worker: Worker) -> None:
    """A task that does not end holds the process up for a bounded time."""
    gate = threading.Event()
    worker.post(gate.wait)
    began_s = time.monotonic()
    worker.finish(0.1)

    assert 0.1 <= time.monotonic() - began_s < 5
    gate.set()


def test_a_process_that_ends_finishes_it() -> None:
    """Nine slow tasks that were posted last are all done when the process has ended."""
    output = run("""
        import time
        from flask_eventstream.worker import WORKER
        for number in range(9):
            WORKER.post(lambda n=number: (time.sleep(0.05), print(n, end=" ", flush=True)))
    """)

    assert output == "0 1 2 3 4 5 6 7 8 "


def test_a_forked_child_does_nothing_of_its_parents() -> None:
    """What was posted before a fork is done once, by the parent; the child can post anew."""
    output = run("""
        import os, threading
        from flask_eventstream.worker import WORKER
        gate = threading.Event()
        WORKER.post(gate.wait)
        WORKER.post(lambda: print("parent", flush=True))
        if os.fork() == 0:
            WORKER.post(lambda: print("child", flush=True))
            WORKER.finish()
            os._exit(0)
        os.wait()
        gate.set()
    """)

    assert output == "child\nparent\n"


def test_greenlets_do_it_where_there_are_greenlets() -> None:
    """Under gevent a task that a foreign thread posts runs in a greenlet of the main thread."""
    output = run("""
        from gevent import monkey
        monkey.patch_all()
        import gevent
        from gevent.threadpool import ThreadPoolExecutor
        from flask_eventstream.process import start_os_thread, _original
        from flask_eventstream.worker import WORKER
        ident = _original("_thread", "get_ident")
        main, ran = ident(), []
        WORKER.prepare()
        start_os_thread(lambda: WORKER.post(lambda: ran.append(ident())))
        for _ in range(500):
            if ran:
                break
            gevent.sleep(0.01)
        print(ran == [main])
        WORKER.post(lambda: print("at the end", flush=True))
    """)

    assert output == "True\nat the end\n"


def test_what_our_threads_log_is_handled_elsewhere() -> None:
    """A record of one of our threads reaches its handlers on the worker, any other at once."""
    handled: list[tuple[str, bool]] = []

    class Noting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            handled.append((record.getMessage(), on_os_thread()))

    logger = logging.getLogger("flask_eventstream")
    handler = Noting()
    logger.addHandler(handler)
    try:
        logger.error("here")

        assert handled == [("here", False)]

        start_os_thread(lambda: logger.error("there"))
        wait_until(lambda: len(handled) == 2, what="the record")
    finally:
        logger.removeHandler(handler)

    assert handled[1] == ("there", False)
