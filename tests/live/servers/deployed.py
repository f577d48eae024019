"""The commands of the pages on deployment, run as a shell, a container or systemd runs them."""

from __future__ import annotations

import configparser
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.waiting import wait_until

__all__ = ["DOCS", "SNIPPETS", "activated", "running", "shop_units"]

DOCS = Path(__file__).parents[3] / "docs"
SNIPPETS = DOCS / "snippets"
# Where the environment's own programs are, as a unit's or a container's PATH would say.
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
STOP_WITHIN_S = 10


@contextmanager
def running(command: list[str], folder: Path, ready: Callable[[], object]) -> Iterator[None]:
    """Run a command in the folder until the block is left; SIGTERM must end it."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PATH": PATH},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until(lambda: ready() or process.poll() is not None, within_s=30, what="the server")
        assert process.poll() is None, (folder / "log").read_text()
        yield
        process.terminate()
        process.wait(STOP_WITHIN_S)
    finally:
        print((folder / "log").read_text())
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(STOP_WITHIN_S)


def shop_units(folder: Path) -> tuple[str, socket.socket]:
    """The command of shop.service, and the socket of shop.socket, in a test's folder."""
    units = configparser.ConfigParser(interpolation=None, strict=False)
    units.optionxform = str  # type: ignore[assignment,method-assign]
    units.read([SNIPPETS / "shop.socket", SNIPPETS / "shop.service"], encoding="utf-8")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(units["Socket"]["ListenStream"].replace("/run/shop", str(folder)))
    listening.listen(int(units["Socket"]["Backlog"]))
    return units["Service"]["ExecStart"].replace("/srv/shop/.venv/bin/", ""), listening


@contextmanager
def activated(command: str, folder: Path, listening: socket.socket) -> Iterator[None]:
    """Run a command as systemd does that has a socket for it: descriptor 3 (sd_listen_fds(3))."""
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            # The number of the process is known to itself alone, before it becomes gunicorn.
            ["bash", "-c", f"exec 3<&{listening.fileno()}; LISTEN_PID=$$ exec {command}"],
            cwd=folder,
            env={**os.environ, "PATH": PATH, "LISTEN_FDS": "1"},
            pass_fds=[listening.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield
        process.terminate()
        process.wait(timeout=30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(timeout=10)
        print((folder / "log").read_text())
