"""Other processes that use a log: small programs, each ended by the test that started it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "COUNTING",
    "ON_DEMAND",
    "PUBLISH",
    "SHORT_OF_FILES",
    "output_of",
    "program",
    "run_program",
]

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


#: Publishes with so many (argv[2]) descriptors left, and says the id or that it could not.
SHORT_OF_FILES = """
import os, resource, sys
from flask_eventstream import Publisher
from flask_eventstream.errors import BrokerUnavailable

publisher = Publisher(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
taken = []
try:
    while True:
        taken.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
for descriptor in taken[:int(sys.argv[2])]:
    os.close(descriptor)
try:
    print(publisher.publish("x", channel="a"))
except BrokerUnavailable as error:
    print("unavailable:", error.why)
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


def output_of(source: str, path: Path, *arguments: str) -> str:
    """What `source` prints."""
    with program(source, path, *arguments) as process:
        return process.communicate(timeout=60)[0].strip()
