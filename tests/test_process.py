"""Threads, locks and hooks of the operating system, without and with gevent's patches."""

from __future__ import annotations

import resource
import subprocess
import sys
import textwrap
import threading

import pytest

from flask_eventstream import process as native
from harness.waiting import wait_until


def run(program: str) -> str:
    """Run a program of its own, and give what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_thread_runs_its_target() -> None:
    """A started thread is another one, and runs what it was given."""
    seen: list[int] = []
    native.start_os_thread(lambda: seen.append(threading.get_ident()))
    wait_until(lambda: seen, what="the thread")

    assert seen != [threading.get_ident()]


def test_a_worker_is_a_daemon() -> None:
    """A worker thread never keeps the process from ending."""
    seen: list[threading.Thread] = []
    native.start_app_thread(lambda: seen.append(threading.current_thread()))
    wait_until(lambda: seen, what="the thread")

    assert seen[0].daemon


def test_a_lock_excludes() -> None:
    """A lock is held by one at a time, and can be waited for with a timeout."""
    lock = native.Lock()
    with lock:
        assert not lock.acquire(timeout=0.01)

    assert lock.acquire(timeout=0.01)


def test_a_mailbox_is_a_queue() -> None:
    """A mailbox gives what was put, in order."""
    mailbox: native.Mailbox[int] = native.Mailbox()
    mailbox.put(1)
    mailbox.put(2)

    assert [mailbox.get(timeout=1), mailbox.get_nowait()] == [1, 2]


def test_this_process_is_not_patched() -> None:
    """Where nobody patched anything, nothing counts as patched."""
    assert not native.is_patched()


def test_gevents_patches_are_seen_and_passed_by() -> None:
    """Beside gevent's greenlets a thread is real: it runs while a greenlet burns the CPU."""
    output = run("""
        from gevent import monkey
        monkey.patch_all()
        import threading, time
        import gevent
        from flask_eventstream import process as native
        lock = native.Lock()
        real = gevent.monkey.get_original("_thread", "allocate_lock")
        ran = []
        ident = gevent.monkey.get_original("_thread", "get_ident")
        native.start_os_thread(lambda: ran.append(ident()))
        while not ran:
            pass  # never yields to gevent: a greenlet would starve
        print(native.is_patched(), ran[0] != ident())
        print(type(lock) is type(real()))
        kinds = []
        native.start_app_thread(lambda: kinds.append(gevent.getcurrent()))
        gevent.sleep(0)
        print(len(kinds))
    """)

    assert output.split() == ["True", "True", "True", "1"]


def test_gevent_that_patched_nothing_changes_nothing() -> None:
    """An imported gevent that patched no threads counts for nothing."""
    output = run("""
        import gevent.monkey
        from flask_eventstream import process as native
        print(native.is_patched())
    """)

    assert output == "False\n"


def test_eventlets_patches_are_seen_and_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where eventlet patched, its originals are used; what it calls the module does not matter."""

    class Patcher:
        already_patched = {"thread": True}  # noqa: RUF012

        @staticmethod
        def original(module: str) -> object:
            assert module == "_thread"
            return Patcher

        @staticmethod
        def allocate_lock() -> str:
            return "the original"

    monkeypatch.setitem(sys.modules, "eventlet.patcher", Patcher)  # type: ignore[arg-type]

    assert native.is_patched()
    assert native.Lock() == "the original"


def test_exit_hooks_run_before_pools_are_waited_for() -> None:
    """A hook runs at exit before threads of a pool are waited for, and once more afterwards."""
    output = run("""
        import threading
        from concurrent.futures import ThreadPoolExecutor
        from flask_eventstream import process as native
        hooked = threading.Event()
        def hook():
            print("hook", flush=True)
            hooked.set()
        native.at_exit(hook)
        ThreadPoolExecutor(1).submit(lambda: print("pool", hooked.wait(20), flush=True))
    """)

    assert output.split("\n") == ["hook", "pool True", "hook", ""]


def test_exit_hooks_need_no_private_function() -> None:
    """Where Python's early hook is gone, the ordinary one runs."""
    output = run("""
        import threading
        from flask_eventstream import process as native
        del threading._register_atexit
        native.at_exit(lambda: print("hook"))
    """)

    assert output == "hook\n"


def test_fork_hooks_run_in_the_child() -> None:
    """A bound method is called in a child, and not in the parent."""
    output = run("""
        import os
        from flask_eventstream.process import in_forked_child
        class Noted:
            def note(self):
                print("child", os.getpid() != parent, flush=True)
        parent = os.getpid()
        noted = Noted()
        in_forked_child(noted.note)
        if os.fork() == 0:
            os._exit(0)
        os.wait()
        print("parent")
    """)

    assert output == "child True\nparent\n"


def test_fork_hooks_keep_nothing_alive() -> None:
    """A hook does not keep its object alive, and does nothing when that is gone."""
    output = run("""
        import os, weakref
        from flask_eventstream.process import in_forked_child
        class Noted:
            def note(self):
                print("called")
        noted = Noted()
        in_forked_child(noted.note)
        gone = weakref.ref(noted)
        del noted
        print(gone())
        if os.fork() == 0:
            os._exit(0)
        print(os.wait()[1])
    """)

    assert output == "None\n0\n"


def test_the_open_file_limit_is_the_soft_one() -> None:
    """The limit is what this process may open now."""
    assert native.open_file_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_no_limit_is_a_large_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system has no limit, a million is one."""
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda _: unlimited)

    assert native.open_file_limit() == 1_000_000


def test_systems_without_limits_have_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python can't ask the system, a usual number is the limit."""
    monkeypatch.setitem(sys.modules, "resource", None)

    assert native.open_file_limit() == 8192


def test_objects_that_are_gone_cost_a_fork_nothing() -> None:
    """Of objects that came and went no hook is left, in whatever number."""
    output = run("""
        from flask_eventstream import process
        class Noted:
            def note(self):
                pass
        kept = len(process._FORKS._hooks)
        for _ in range(20_000):
            noted = Noted()
            process.around_fork(before=noted.note, in_parent=noted.note, in_child=noted.note)
        print(len(process._FORKS._hooks) - kept)
    """)

    assert output == "1\n"


def test_hooks_run_in_the_systems_order() -> None:
    """Hooks before a fork run in the reverse of their order, hooks after it in their order."""
    # Each line in one piece: two processes write.
    output = run("""
        import os
        from flask_eventstream.process import around_fork
        class Noted:
            def __init__(self, name):
                self.name = name
                around_fork(before=self.before, in_parent=self.parent, in_child=self.child)
            def before(self):
                os.write(1, f"before {self.name}\\n".encode())
            def parent(self):
                os.write(1, f"parent {self.name}\\n".encode())
            def child(self):
                os.write(1, f"child {self.name}\\n".encode())
        one, two = Noted(1), Noted(2)
        if os.fork() == 0:
            os._exit(0)
        os.wait()
    """)

    lines = output.splitlines()
    assert lines[:2] == ["before 2", "before 1"]
    assert [line for line in lines if line.startswith("child")] == ["child 1", "child 2"]
    assert [line for line in lines if line.startswith("parent")] == ["parent 1", "parent 2"]
