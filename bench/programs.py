"""Programs of the benchmark: each on its core, in a process group of its own that ends for sure."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bench.machine import SERVER_CORE, group_of, pinned
from harness.waiting import wait_until

__all__ = ["CannotRun", "Program", "answers", "compiled", "running"]

HERE = Path(__file__).parent
READY_WITHIN_S = 40.0
STOP_WITHIN_S = 15.0
LOG_TAIL = 2000


class CannotRun(Exception):
    """A peer that is not here, or cannot do a case; the text is the reason."""


@dataclass(frozen=True, slots=True)
class Program:
    """A running program."""

    process: subprocess.Popen[bytes]
    output: IO[bytes]

    @property
    def pids(self) -> list[int]:
        """The processes of the program, those it started included."""
        return group_of(self.process.pid)

    def log(self) -> str:
        """The last of what it has written."""
        size = os.fstat(self.output.fileno()).st_size
        start = max(0, size - LOG_TAIL)
        return os.pread(self.output.fileno(), size - start, start).decode("utf-8", "replace")

    def last_words(self) -> str:
        """The last line that it has written: of a traceback, the error."""
        return next((line for line in reversed(self.log().splitlines()) if line.strip()), "")


@contextmanager
def running(
    command: Sequence[str],
    *,
    ready: Callable[[Program], object],
    cwd: Path = HERE / "apps",
    env: Mapping[str, str] | None = None,
    core: int = SERVER_CORE,
) -> Iterator[Program]:
    """Run a program on one core for the length of a block.

    Raises:
        CannotRun: It did not become ready; the text has its log.
    """
    with tempfile.TemporaryFile() as output:
        with pinned(core):
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        program = Program(process, output)
        try:
            _await_ready(program, ready)
            yield program
        finally:
            _end(process)


def _await_ready(program: Program, ready: Callable[[Program], object]) -> None:
    def is_ready() -> object:
        if program.process.poll() is not None:
            raise CannotRun(f"it ended: {program.last_words()}")
        return ready(program)

    try:
        wait_until(is_ready, within_s=READY_WITHIN_S, what="the server")
    except AssertionError as error:
        raise CannotRun(f"{error}: {program.last_words()}") from error


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_WITHIN_S)
    # The group outlives its leader where a worker does not.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(STOP_WITHIN_S)


def answers(port: int, path: str = "/ping") -> bool:
    """Whether the server at a port answers an ordinary request."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status < http.client.INTERNAL_SERVER_ERROR
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def compiled(name: str, folder: Path) -> Path:
    """Compile one of the C programs of this folder.

    Raises:
        CannotRun: There is no compiler, or it refused.
    """
    program = folder / name
    source = str(HERE / f"{name}.c")
    command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(program), source]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    except OSError as error:
        raise CannotRun(f"no C compiler ({error}): install gcc and libc6-dev") from error
    except subprocess.CalledProcessError as error:
        raise CannotRun(f"cc: {error.stderr}") from error
    return program
