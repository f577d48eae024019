"""Real web servers with an app in them, each in a process tree that ends for sure.

A server is started in a session of its own, so that one signal to the group reaches every process
that it forked, and nothing that somebody else started. Its output goes to an unlinked file: no
pipe that can fill up, no thread that reads it, nothing to clean away.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple, TypeVar

from .asgi_servers import ASGI_SERVERS, plan_asgi
from .ports import HOST, accepts
from .waiting import Deadline, wait_until
from .wsgi_servers import FURTHER_KINDS, Plan, plan

__all__ = ["FURTHER_KINDS", "KINDS", "Server", "serve"]

T = TypeVar("T")

GUNICORN_WORKERS = {
    "gunicorn-sync": "sync",
    "gunicorn-gthread": "gthread",
    "gunicorn-gevent": "gevent",
    "gunicorn-gevent-pywsgi": "gevent_pywsgi",
    "gunicorn-asgi": "asgi",
}
WERKZEUG_FLAGS: dict[str, tuple[str, ...]] = {
    "werkzeug": (),
    "werkzeug-unthreaded": ("--without-threads",),
    "werkzeug-debug": ("--debug",),
}
# What tests/live puts every claim to. FURTHER_KINDS and gevent_pywsgi have tests/live/servers, and
# ASGI_KINDS tests/live/asgi.
KINDS = ("gunicorn-sync", "gunicorn-gthread", "gunicorn-gevent", *WERKZEUG_FLAGS)

# What somebody's shell may hold that would change the server under test.
FOREIGN_VARIABLES = (
    "GUNICORN_CMD_ARGS",
    "WEB_CONCURRENCY",
    "FORWARDED_ALLOW_IPS",
    "WERKZEUG_SERVER_FD",
    "WERKZEUG_RUN_MAIN",
    "PYTHONSAFEPATH",
    "PORT",
)

# gunicorn opens its port before its workers have the app, so a worker says when it has it. And
# since version 25 the arbiter listens on a control socket, by default one in the home directory
# that all servers share; older versions refuse an unknown option but ignore an unknown setting.
LOADED = "loaded"
GUNICORN_SETTINGS = """\
import pathlib

control_socket = "{scratch}/gunicorn.ctl"


def post_worker_init(worker):
    pathlib.Path("{scratch}/{loaded}").touch()
"""

# A cold start of Python, Flask and gevent takes about two seconds on a busy two-core machine.
READY_WITHIN_S = 30.0
STOP_WITHIN_S = 10.0
# SIGKILL needs no cooperation; only a kernel under heavy load makes it take noticeable time.
KILL_WITHIN_S = 20.0

# gunicorn and the starters of this package, Werkzeug, and uWSGI.
PORT_WORDS = "Listening at: https?://|Running on http://|bound to TCP address "
PORT_LINE = re.compile(rf"(?:{PORT_WORDS}){re.escape(HOST)}:([0-9]+)")


class _Process(NamedTuple):
    pid: int
    parent: int
    group: int
    running: bool


def _processes() -> Iterator[_Process]:
    """Every process of this machine, read from /proc/PID/stat (proc(5))."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_bytes()
        except OSError:
            continue  # it ended while the list was read
        # The name in parentheses may hold spaces and parentheses itself.
        state, parent, group = stat[stat.rindex(b")") + 2 :].split()[:3]
        yield _Process(int(entry.name), int(parent), int(group), state not in b"ZX")


class Server:
    """A running server and the processes under it. Made by `serve`; one test owns it.

    Attributes:
        kind: one of `KINDS`, `FURTHER_KINDS` or `ASGI_KINDS`.
        port: where it listens on 127.0.0.1.
        pid: the process that was started: gunicorn's arbiter, or Werkzeug (its reloader).
    """

    def __init__(
        self,
        kind: str,
        *,
        process: subprocess.Popen[bytes],
        output: IO[bytes],
        app_loaded: Callable[[], bool],
        port: int = 0,
    ) -> None:
        self.kind = kind
        self.port = port
        self.pid = process.pid
        self._process = process
        self._output = output
        self._app_loaded = app_loaded
        self._ended = False

    def __repr__(self) -> str:
        return f"<Server {self.kind} pid={self.pid} port={self.port} ended={self._ended}>"

    @property
    def url(self) -> str:
        """The address without a path: "http://127.0.0.1:PORT"."""
        return f"http://{HOST}:{self.port}"

    def log(self) -> str:
        """All that the server has written so far: stdout, stderr and access log.

        It can be read after the server has ended, until the `serve` block is left.
        """
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode("utf-8", "replace")

    def worker_pids(self) -> list[int]:
        """The processes that answer requests, oldest first; empty once the server has ended.

        Gunicorn's workers, the child that Werkzeug's reloader runs, or the server itself. For
        other kinds only what was started is known.
        """
        if self._leader_ended():
            return []
        if self.kind not in {*GUNICORN_WORKERS, "werkzeug-debug"}:
            return [self.pid]
        return sorted(p.pid for p in _processes() if p.parent == self.pid and p.running)

    def signal(self, number: int, pid: int | None = None) -> None:
        """Send a signal to the started process, or to one process of its tree.

        Raises:
            ProcessLookupError: `pid` is not a living process of this server.
        """
        target = self.pid if pid is None else pid
        if target not in self._living():
            raise ProcessLookupError(f"{target} is not a living process of {self!r}")
        os.kill(target, number)

    def stop(self, within_s: float = STOP_WITHIN_S) -> bool:
        """End the server as an init system does: SIGTERM, and SIGKILL after the deadline.

        Returns:
            True if every process had ended by itself within `within_s` seconds.
        """
        if self._ended:
            return True
        deadline = Deadline(within_s)
        with contextlib.suppress(ProcessLookupError):
            self.signal(signal.SIGTERM)
        try:
            wait_until(
                lambda: not self._living(), within_s=deadline.left_s, what="the server's end"
            )
        except AssertionError:
            self.kill()
            return False
        self._reap()
        return True

    def wait_ended(self, within_s: float = STOP_WITHIN_S) -> None:
        """Wait until the process that was started has ended without being asked."""
        wait_until(self._leader_ended, within_s=within_s, what=f"the end of {self!r}")

    def kill(self) -> None:
        """SIGKILL the whole tree and wait until no process of it is left. Safe to repeat."""
        if self._ended:
            return
        # The started process is reaped last of all: until then its number, which is also the
        # number of the group, cannot be given to anybody else's process.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        wait_until(
            lambda: not self._living(), within_s=KILL_WITHIN_S, what=f"the killed tree of {self!r}"
        )
        self._reap()

    def _living(self) -> list[int]:
        if self._ended:
            return []
        return [p.pid for p in _processes() if p.group == self.pid and p.running]

    def _leader_ended(self) -> bool:
        if self._ended:
            return True
        # WNOWAIT: look without reaping, see `kill`.
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, self.pid, flags) is not None

    def _reap(self) -> None:
        self._process.wait(timeout=KILL_WITHIN_S)
        self._ended = True

    def _await_ready(self, within_s: float) -> None:
        deadline = Deadline(within_s)
        try:
            if not self.port:
                ports = wait_until(
                    lambda: self._unless_ended(PORT_LINE.findall(self.log())),
                    within_s=deadline.left_s,
                    what="the line that names the port",
                )
                self.port = int(ports[0])
            wait_until(
                lambda: accepts(self.port), within_s=deadline.left_s, what="a TCP connection"
            )
            wait_until(
                lambda: self._unless_ended(self._app_loaded() and self.worker_pids()),
                within_s=deadline.left_s,
                what="a worker with the app",
            )
        except AssertionError as error:
            raise AssertionError(
                f"{self.kind} did not become ready: {error}\nits log:\n{self.log()}"
            ) from error

    def _unless_ended(self, value: T) -> T:
        if not value and self._leader_ended():
            raise AssertionError("it ended")
        return value


@contextmanager
def serve(
    kind: str,
    app: str,
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
    port: int = 0,
) -> Iterator[Server]:
    """Run a server for the length of a `with` block; its whole process tree ends with the block.

    Args:
        kind: one of `KINDS`, `FURTHER_KINDS` or `ASGI_KINDS`.
        app: "module:attribute", importable from `cwd`.
        cwd: the directory in which the server runs.
        env: variables on top of this process's own; the server's own switches are taken out first.
        options: further command line arguments, such as ["--workers", "2"]. One worker otherwise.
            With a --config of your own, "ready" no longer means that a worker has the app.
        port: 0 for any free one; a number to come back where an earlier server was.

    Raises:
        AssertionError: it did not get ready; the text has the server's log.
    """
    with (
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryDirectory(prefix="server-") as scratch,
    ):
        planned = _plan(kind, app, port=port, options=options, scratch=Path(scratch), cwd=cwd)
        process = subprocess.Popen(
            planned.command,
            cwd=cwd,
            env=_environment(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        loaded = Path(scratch) / LOADED
        hooked = kind in GUNICORN_WORKERS and not {"-c", "--config"} & set(options)
        server = Server(
            kind,
            process=process,
            output=output,
            app_loaded=lambda: (loaded.exists() or not hooked) and planned.ready in server.log(),
            port=planned.port,
        )
        try:
            server._await_ready(READY_WITHIN_S)
            yield server
            server.stop()
        finally:
            server.kill()


def _plan(
    kind: str, app: str, *, port: int, options: Sequence[str], scratch: Path, cwd: Path
) -> Plan:
    if kind in FURTHER_KINDS:
        return plan(kind, app, port=port, options=options, scratch=scratch, cwd=cwd)
    if kind in ASGI_SERVERS:
        return plan_asgi(kind, app, port=port, options=options)
    return Plan(_command(kind, app, port=port, options=options, scratch=scratch))


def _command(kind: str, app: str, *, port: int, options: Sequence[str], scratch: Path) -> list[str]:
    if kind in GUNICORN_WORKERS:
        settings = scratch / "gunicorn.conf.py"
        settings.write_text(GUNICORN_SETTINGS.format(scratch=scratch, loaded=LOADED))
        return [
            *(sys.executable, "-m", "gunicorn", "--config", str(settings)),
            *("--worker-class", GUNICORN_WORKERS[kind], "--workers", "1"),
            *("--bind", f"{HOST}:{port}", "--access-logfile", "-", "--error-logfile", "-"),
            *options,
            app,
        ]
    if kind in WERKZEUG_FLAGS:
        return [
            *(sys.executable, "-m", "flask", "--app", app, "run"),
            *("--host", HOST, "--port", str(port), *WERKZEUG_FLAGS[kind]),
            *options,
        ]
    raise ValueError(f"unknown server kind {kind!r}; known are {', '.join(KINDS)}")


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in FOREIGN_VARIABLES and not name.startswith("FLASK_")
    }
    return {**inherited, "PYTHONUNBUFFERED": "1", **extra}
