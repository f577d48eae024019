"""The machine: its facts, its cores, its limits, and what processes on it have used."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path

__all__ = [
    "SERVER_CORE",
    "allow_descriptors",
    "cpu_ns",
    "facts",
    "group_of",
    "load_core",
    "pinned",
    "resident_bytes",
]

SERVER_CORE = 0
# Asked once: the benchmark itself is pinned later.
_CORES = len(os.sched_getaffinity(0))

# Descriptors of a program beside its streams.
OTHER_DESCRIPTORS = 1000

# clock_getcpuclockid(3) as the kernel encodes it (CPUCLOCK_SCHED of a whole process). It counts
# nanoseconds, and threads that have ended too; /proc/PID/stat counts hundredths of a second.
_CPU_CLOCK = 2


def cpu_ns(pids: Iterable[int]) -> int:
    """Processor time that the processes have used, all their threads, in nanoseconds.

    Raises:
        OSError: One of them is gone.
    """
    return sum(time.clock_gettime_ns((~pid << 3) | _CPU_CLOCK) for pid in pids)


def group_of(leader: int) -> list[int]:
    """The living processes of a process group."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (folder / "stat").read_text(encoding="ascii", errors="replace")
                state, _, group = stat[stat.rindex(")") + 2 :].split()[:3]
                if int(group) == leader and state not in "ZX":
                    found.append(int(folder.name))
    return sorted(found)


def resident_bytes(pids: Iterable[int]) -> int:
    """Memory that the processes occupy."""
    pages = (Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1] for pid in pids)
    return sum(map(int, pages)) * os.sysconf("SC_PAGE_SIZE")


def load_core() -> int:
    """The core of the load: another one than the server's, where there is one."""
    return SERVER_CORE + 1 if _CORES > 1 else SERVER_CORE


@contextmanager
def pinned(core: int) -> Iterator[None]:
    """What is started in this block runs on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def allow_descriptors(streams: int) -> int:
    """Raise the limit on open files, for this process and what it starts, as far as it goes.

    Returns:
        How many streams one process can hold, of one descriptor each.
    """
    wanted = streams + OTHER_DESCRIPTORS
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(wanted, hard), max(wanted, hard)))
    except (ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft - OTHER_DESCRIPTORS


def facts() -> dict[str, str]:
    """What a reader must know of this machine to compare."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": _processor(),
        "cores": f"{os.cpu_count()}; servers on core {SERVER_CORE}, load on core {load_core()}",
        "memory": _memory(),
        "kernel": f"{platform.system()} {platform.release()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "C compiler": first_line("cc", "--version"),
    }


def first_line(*command: str) -> str:
    """What a program says first, of its version for example; empty where there is none."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except OSError:
        return ""
    return (done.stdout or done.stderr).strip().partition("\n")[0]


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory() -> str:
    kilobytes = int(Path("/proc/meminfo").read_text(encoding="ascii").split()[1])
    return f"{kilobytes / 2**20:.0f} GiB"
