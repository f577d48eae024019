"""What a running process holds and has used, read from /proc (proc(5))."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cpu_s", "descriptors", "is_alive", "resident_bytes", "threads"]

# Fields of /proc/PID/stat behind the name in parentheses.
STATE, USER_TICKS, SYSTEM_TICKS = 0, 11, 12


def descriptors(pid: int) -> int:
    """How many descriptors the process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


def threads(pid: int) -> int:
    """How many threads of the operating system the process has."""
    return sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())


def resident_bytes(pid: int) -> int:
    """How much memory the process occupies."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def cpu_s(pid: int) -> float:
    """Seconds of processor time that the process has used, in steps of a hundredth."""
    fields = _stat(pid)
    ticks = int(fields[USER_TICKS]) + int(fields[SYSTEM_TICKS])
    return ticks / os.sysconf("SC_CLK_TCK")


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that ended and was not waited for does not."""
    try:
        return _stat(pid)[STATE] not in "ZX"
    except OSError:
        return False


def _stat(pid: int) -> list[str]:
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    return stat[stat.rindex(")") + 2 :].split()
