"""Whether a process that has nothing to do does nothing."""

from __future__ import annotations

import time

from harness.process import cpu_s
from harness.streams import Reader
from harness.waiting import wait_until

__all__ = ["assert_calm"]

# Of one core. A busy loop takes all of it, or what others leave.
MOST = 0.2


def assert_calm(pid: int, reader: Reader) -> None:
    """While four heartbeats come the process uses next to no time."""
    began_s, used_s, enough = time.monotonic(), cpu_s(pid), reader.comments + 4
    wait_until(lambda: reader.comments >= enough, what="four heartbeats")

    assert cpu_s(pid) - used_s < MOST * (time.monotonic() - began_s)
