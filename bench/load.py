"""The load generator from Python: commands to `load.c`, and its answers."""

from __future__ import annotations

import json
import select
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.machine import load_core, pinned

__all__ = ["Answer", "Delays", "Load", "LoadFailed", "loading"]

IN_FLIGHT = 128
# Beyond the time that a command was given: then the load generator itself is stuck.
GRACE_S = 30.0


class LoadFailed(Exception):
    """The streams did not do what they must: not opened, lost, doubled, ended."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the load generator has counted so far, all streams together; see load.c."""

    complete: bool
    elapsed_s: float
    cpu_s: float
    last_ns: int
    opened: int
    delivered: int
    doubled: int
    missing: int
    other: int
    resets: int
    comments: int
    ended: int
    refused: int
    failed: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Delays:
    """From publishing to arrival, over all deliveries since the last report."""

    samples: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


class Load:
    """A running load generator."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def open(self, count: int, path: str, *, needs_head: bool = True, within_s: float) -> Answer:
        """Open more streams.

        Raises:
            LoadFailed: Not all of them opened.
        """
        command = f"open {count} {IN_FLIGHT} {int(needs_head)} {within_s} {path}"
        return self._all_open(command, within_s)

    def resume(self, *, within_s: float) -> Answer:
        """Open all streams again, all at once, each from its last id."""
        return self._all_open(f"resume {within_s}", within_s)

    def _all_open(self, command: str, within_s: float) -> Answer:
        answer = self._ask(command, within_s)
        if not answer.complete or answer.refused or answer.failed or answer.ended:
            raise LoadFailed(
                f"not all streams opened (open: {answer.opened:,}, refused: {answer.refused:,},"
                f" failed: {answer.failed:,}, ended: {answer.ended:,})"
            )
        return answer

    def expect(self, sequence: int) -> None:
        """Say which event is every stream's next."""
        self._ask(f"expect {sequence}", 0)

    def wait(self, deliveries: int, *, within_s: float) -> Answer:
        """Wait until so many deliveries came in all.

        Raises:
            LoadFailed: They did not, or an event came twice, or out of order, or a stream ended.
        """
        answer = self._ask(f"wait {deliveries} {within_s}", within_s)
        if not answer.complete:
            self._exact(answer)
            raise LoadFailed(f"only {answer.delivered:,} of {deliveries:,} deliveries came")
        return self._exact(answer)

    def run(self, seconds: float) -> Answer:
        """Read on for some time; whatever came twice or in disorder until then is found."""
        return self._exact(self._ask(f"run {seconds}", seconds))

    def _exact(self, answer: Answer) -> Answer:
        wrong = {
            "came twice": answer.doubled,
            "missing": answer.missing,
            "resets": answer.resets,
            "streams ended": answer.ended,
        }
        if any(wrong.values()):
            found = ", ".join(f"{name}: {count:,}" for name, count in wrong.items() if count)
            raise LoadFailed(f"not each event once and in order ({found})")
        return answer

    def cut(self) -> None:
        """Close all streams."""
        self._ask("cut", 0)

    def delays(self) -> Delays:
        """How long deliveries took, since the last time this was asked."""
        return Delays(**self._say("report", 0))

    def _ask(self, command: str, within_s: float) -> Answer:
        return Answer(**self._say(command, within_s))

    def _say(self, command: str, within_s: float) -> dict[str, Any]:
        into, out = self._process.stdin, self._process.stdout
        if into is None or out is None:
            raise LoadFailed("the load generator has no pipes")
        into.write(f"{command}\n".encode())
        into.flush()
        if not select.select([out], [], [], within_s + GRACE_S)[0]:
            raise LoadFailed(f"the load generator does not answer to {command!r}")
        answer: dict[str, Any] = json.loads(out.readline() or b"{}")
        if not answer:
            raise LoadFailed(f"the load generator ended at {command!r}")
        return answer


@contextmanager
def loading(program: Path, port: int) -> Iterator[Load]:
    """Run a load generator against a port, on the load's core, for the length of a block."""
    with pinned(load_core()):
        process = subprocess.Popen(
            [program, "127.0.0.1", str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
    try:
        yield Load(process)
    finally:
        process.kill()
        process.communicate()
