"""Other processes that use a log: small programs, each ended by the test that started it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["COUNTING", "ON_DEMAND", "PUBLISH", "program", "run_program"]

#: Publishes argv[2] events named argv[3], on channels a and b in turn.
PUBLISH = """
import sys
from flask_eventstream import Publisher

publisher = Publisher(sys.argv[1])
for number in range(int(sys.argv[2])):
    publisher.publish(f"{sys.argv[3]}-{number}", channel="ab"[number % 2])
"""

#: Publishes the moment, in nanoseconds, for each line that it reads.
ON_DEMAND = """
import sys, time
from flask_eventstream import Publisher

publisher = Publisher(sys.argv[1])
print("ready", flush=True)
for line in sys.stdin:
    publisher.publish(str(time.monotonic_ns()), channel="a")
"""

#: Publishes 0, 1, 2 … on channel a for ever, and says which it has published.
COUNTING = """
import itertools, sys
from flask_eventstream import Publisher

publisher = Publisher(sys.argv[1])
for number in itertools.count():
    publisher.publish(str(number), channel="a")
    print(number, flush=True)
"""


@contextmanager
def program(source: str, path: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Runs `source`, whose first argument is the log's URL; killed at the end if it still runs."""
    command = [sys.executable, "-c", source, f"sqlite:///{path}", *arguments]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def run_program(source: str, path: Path, *arguments: str) -> None:
    with program(source, path, *arguments) as process:
        process.communicate(timeout=60)
        assert process.returncode == 0
