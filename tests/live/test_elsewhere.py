"""What can be shown here of systems that lack what POSIX has, such as Windows: the way without."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from harness.streams import get
from harness.waiting import wait_until
from live.site import HOLDS_THREADS, Site

Launch = Callable[..., Site]

#: Python runs it before anything else. What Windows lacks is not there, but for what the standard
#: library has taken already, which goes by the system's name. uvloop is not built there.
WITHOUT = """\
import sys, _socket

del _socket.socketpair, _socket.AF_UNIX  # so that `socket` makes its pairs as on Windows
import multiprocessing, os, signal, socket, socketserver, subprocess, tempfile, werkzeug.serving

for name in ("fcntl", "grp", "pwd", "resource", "termios", "uvloop"):
    sys.modules[name] = None
for name in (
    *("fork", "forkpty", "register_at_fork", "get_blocking", "set_blocking", "getuid", "geteuid"),
    *("getgid", "getegid", "chown", "fchmod", "sysconf", "uname", "mkfifo", "killpg", "getpgid"),
    *("pread", "pwrite", "sendfile", "eventfd", "memfd_create", "statvfs", "wait3", "wait4"),
):
    delattr(os, name)
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGKILL", "SIGQUIT", "SIGALRM", "SIGCHLD", "SIGPIPE"):
    delattr(signal, name)
for module in (socket, _socket):
    for name in ("SO_REUSEPORT", "TCP_USER_TIMEOUT", "MSG_NOSIGNAL", "MSG_DONTWAIT"):
        delattr(module, name)
"""


def test_without_what_windows_lacks(launch: Launch, tmp_path: Path, channel: str) -> None:
    """Without fork, fcntl, resource, uvloop and most signals Werkzeug serves streams on threads."""
    (tmp_path / "sitecustomize.py").write_text(WITHOUT, encoding="utf-8")
    env = {"PYTHONPATH": str(tmp_path)}
    site = launch("werkzeug", app="elsewhere:app", env=env, hands_off=False)
    missing = get(f"{site.url}/missing").text.split()
    with site.read(channel) as reader, site.read(channel) as other:
        for each in (reader, other):
            wait_until(partial(getattr, each, "comments"), what="an open stream")
        site.publisher.publish("hello", channel=channel)
        assert [each.next_event()["data"] for each in (reader, other)] == ["hello"] * 2

    assert missing == ["fork", "register_at_fork"]
    (line,) = [line for line in site.server.log().splitlines() if HOLDS_THREADS in line]
    assert "sockets are no descriptors on this system" in line
