"""The hub thread of a process. What needs a process of its own runs as a small program."""

from __future__ import annotations

import gc
import re
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Callable

import pytest
from flask import Flask, g, has_app_context

from flask_eventstream import EventStream
from flask_eventstream.hub import thread as room
from flask_eventstream.hub.thread import HubThread, can_run, hub_thread
from harness.hand_server import HandServer
from harness.waiting import wait_until

pytestmark = pytest.mark.real

Run = Callable[[str], str]

# What most programs begin with: an application, a server made by hand, one open stream.
PROLOGUE = """
import os, socket, sys, threading, time
from flask import Flask
from flask_eventstream import EventStream
from flask_eventstream.hub import thread as room
from harness.hand_server import HandServer
from harness.waiting import wait_until

events = EventStream()
app = Flask("app_under_test")
app.config.update(SSE_BROKER_URL="memory://", SSE_PUBLIC=True)
app.register_blueprint(events)
server = HandServer(app)

def threads():
    # libuv 1.45 to 1.48 lets the kernel poll in one more, which is not of this process's making.
    names = [open(f"/proc/self/task/{task}/comm").read() for task in os.listdir("/proc/self/task")]
    # Nor is the one that counts readers the hub's.
    others = [each.name for each in threading.enumerate()].count("flask-eventstream census")
    return len([name for name in names if not name.startswith("iou-sqp")]) - others

"""


@pytest.fixture
def run() -> Run:
    """Run a program that must end by itself, and give what it printed."""

    def start(program: str) -> str:
        done = subprocess.run(
            # What a program leaves open when it ends is the system's to close.
            [
                sys.executable,
                "-W",
                "error",
                "-W",
                "ignore::ResourceWarning",
                "-c",
                PROLOGUE + textwrap.dedent(program),
            ],
            env={"PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        return done.stdout

    return start


def test_nothing_starts_before_the_first_stream(run: Run) -> None:
    """Neither import, registration nor publishing starts a thread; the first stream starts one."""
    output = run("""
        print(threads())
        events.publish("x")
        app.test_client().head("/stream")
        print(threads())
        with server.request() as page:
            page.opened()
            print(threads())
            with server.request() as other:
                other.opened()
                print(threads())
    """)

    assert output.split() == ["1", "1", "2", "2"]


def test_all_extensions_share_one_thread() -> None:
    """Every caller gets the same hub thread, whichever thread it calls from."""
    found: list[HubThread] = []
    threads = [threading.Thread(target=lambda: found.append(hub_thread())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert len(found) == 8
    assert {id(each) for each in found} == {id(hub_thread())}


def test_calls_run_on_the_hub_thread_in_an_empty_context() -> None:
    """A call runs on the loop's own thread, and sees none of its caller's context variables."""
    seen: list[object] = []
    done = threading.Event()

    def look() -> None:
        seen.extend([threading.get_ident(), has_app_context()])
        done.set()

    with Flask("app_under_test").app_context():
        hub_thread().call(look)

    assert done.wait(10)
    assert seen[0] != threading.get_ident()
    assert seen[1] is False


def test_an_open_stream_keeps_no_request_alive() -> None:
    """While a stream is open its request, with all that hangs on it, is gone."""
    events = EventStream()
    app = Flask("app_under_test")
    app.config.update(SSE_BROKER_URL="memory://", SSE_PUBLIC=True)
    app.register_blueprint(events)
    kept: list[weakref.ref[object]] = []

    class Large:
        """What a request holds: a database session, a user."""

    @events.before_request
    def load() -> None:
        g.large = Large()
        kept.append(weakref.ref(g.large))

    with HandServer(app).request() as page:
        page.opened()
        gc.collect()

        assert events.stats().streams == 1
        assert [reference() for reference in kept] == [None]


def test_publishing_keeps_no_context_alive() -> None:
    """A publish that wakes the hub leaves nothing of its request behind."""
    events = EventStream()
    app = Flask("app_under_test")
    app.config.update(SSE_BROKER_URL="memory://", SSE_PUBLIC=True)
    app.register_blueprint(events)

    class Large:
        """What a request holds."""

    with HandServer(app).request() as page:
        page.opened()
        with app.app_context():
            g.large = Large()
            reference = weakref.ref(g.large)
            events.publish("x")
        page.got("x")
        gc.collect()

        assert reference() is None


def test_the_exit_hook_stops_the_hub(run: Run) -> None:
    """A process that exits says goodbye, before it waits for the threads of a pool."""
    output = run("""
        from concurrent.futures import ThreadPoolExecutor
        page = server.request().opened()
        copy = socket.socket(fileno=os.dup(page._socket.fileno()))
        copy.settimeout(10)
        def wait_for_the_end():
            text = b""
            while chunk := copy.recv(1000):
                text += chunk
            print("retry:" in text.decode(), flush=True)
        ThreadPoolExecutor(1).submit(wait_for_the_end)
    """)

    assert output == "True\n"


def test_stopping_is_bounded(run: Run) -> None:
    """A stop takes two seconds at most, also with a client that takes nothing."""
    output = run("""
        app.config["SSE_MAX_BUFFER_BYTES"] = 1 << 30
        page = server.request().opened()
        events.publish("x" * 3_000_000)
        wait_until(lambda: events.stats().deliveries == 1, what="the write")
        began = time.monotonic()
        room.hub_thread().stop()
        print(time.monotonic() - began < 2.5)
        began = time.monotonic()
        room._CURRENT.stop()
        print(time.monotonic() - began < 0.1)
    """)

    assert output.split() == ["True", "True"]


def test_stopping_ends_the_thread(run: Run) -> None:
    """After a stop the thread is gone, and a second stop finds nothing to do."""
    output = run("""
        server.request().opened()
        room.hub_thread().stop()
        wait_until(lambda: threads() == 1, what="the thread to be gone")
        room._CURRENT.stop()
        print("ended")
    """)

    assert output == "ended\n"


def test_nothing_is_taken_while_the_process_goes_down(run: Run) -> None:
    """A stream that comes after the stop is answered by the server itself: 200, retry, end."""
    output = run("""
        import logging
        logging.disable()
        server.request().opened().close()
        room.hub_thread().stop()
        with server.request() as page:
            page.end()
            print(page.response.status, page.body)
    """)

    assert re.fullmatch(r"200 b'retry: \d{3,4}\\n:\\n'\n", output)


def test_a_stopped_runner_takes_no_calls(run: Run) -> None:
    """Whoever has a hub thread that was stopped learns so from `call`, and from `hub_thread`."""
    output = run("""
        running = room.hub_thread()
        running.stop()
        for ask in (room.hub_thread, lambda: running.call(print)):
            try:
                ask()
            except RuntimeError as error:
                print(error)
    """)

    assert output == 2 * "the hub thread was stopped: the process is going down\n"


def test_a_forked_child_keeps_no_client(run: Run) -> None:
    """A client's connection ends with its process, also while a forked child lives on."""
    output = run("""
        import signal
        parents_word, childs = os.pipe()
        page_client, connection = socket.socketpair()
        worker = os.fork()
        if worker == 0:
            page_client.close()
            server._serve(connection, "/stream", "GET", {})
            connection.close()
            wait_until(lambda: events.stats().streams == 1, what="the stream")
            grandchild = os.fork()
            if grandchild == 0:
                time.sleep(25)
                os._exit(0)
            os.write(childs, b"%d " % grandchild)
            time.sleep(25)
            os._exit(0)
        connection.close()
        grandchild = int(os.read(parents_word, 100))
        page_client.settimeout(10)
        while b":\\n" not in (text := page_client.recv(1000)):
            pass
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)
        while page_client.recv(1000):
            pass
        print("ended", os.path.exists(f"/proc/{grandchild}"))
        os.kill(grandchild, signal.SIGKILL)
    """)

    assert output == "ended True\n"


def test_a_forked_child_has_a_hub_of_its_own(run: Run) -> None:
    """A child of a process with open streams starts its own hub; the parent's streams go on."""
    output = run("""
        parents = server.request().opened()
        child = os.fork()
        if child == 0:
            page = server.request().opened()
            events.publish("from the child")
            page.got("from the child")
            print(threads(), flush=True)
            page.close()
            sys.exit(0)
        _, status = os.waitpid(child, 0)
        print(status)
        events.publish("from the parent")
        parents.got("from the parent")
        parents.close()
    """)

    assert output.split() == ["2", "0"]


def test_a_forked_child_may_just_end(run: Run) -> None:
    """A child that never streams ends without touching the parent's hub or its streams."""
    output = run("""
        page = server.request().opened()
        child = os.fork()
        if child == 0:
            sys.exit(0)
        print(os.waitpid(child, 0)[1])
        events.publish("still here")
        page.got("still here")
    """)

    assert output == "0\n"


@pytest.mark.parametrize(
    ("has_uvloop", "patched", "can"),
    [(True, True, True), (True, False, True), (False, False, True), (False, True, False)],
)
def test_where_a_hub_can_run(
    monkeypatch: pytest.MonkeyPatch,
    has_uvloop: bool,  # noqa: FBT001
    patched: bool,  # noqa: FBT001
    can: bool,  # noqa: FBT001
) -> None:
    """A hub can run everywhere but on Python's own loop beside greenlets."""
    monkeypatch.setattr(room, "_HAS_UVLOOP", has_uvloop)
    monkeypatch.setattr(room, "is_patched", lambda: patched)

    assert can_run() is can


def test_a_thread_that_does_not_begin_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub thread that does not begin in time raises, and nobody waits for ever."""
    loops: list[object] = []
    monkeypatch.setattr(room, "start_os_thread", loops.append)
    monkeypatch.setattr(room, "_START_S", 0.01)

    with pytest.raises(RuntimeError, match=r"did not begin within 0\.01 s"):
        HubThread()

    assert wait_until(lambda: loops, what="the thread to have been asked for")


def test_greenlets_that_come_together_start_it_once() -> None:
    """Under gevent the first streams may come at once: none waits for another that has its turn."""
    program = """
        from gevent import monkey
        monkey.patch_all()
        import gevent
        from flask_eventstream.hub.thread import hub_thread
        came = [gevent.spawn(hub_thread) for _ in range(3)]
        print(len({greenlet.get() for greenlet in came}))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.stdout == "1\n", done.stderr
