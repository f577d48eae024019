"""Waiting for a condition, always with a deadline and never for luck."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

__all__ = ["Deadline", "PlainWait", "beside_a_plain_wait", "wait_until"]

T = TypeVar("T")

# Short enough that a wait costs a test next to nothing, long enough to leave the processor
# to the server that is waited for.
POLL_S = 0.005


class Deadline:
    """A moment that several waits share, so that together they never take longer."""

    __slots__ = ("_at", "within_s")

    def __init__(self, within_s: float) -> None:
        self.within_s = within_s
        self._at = time.monotonic() + within_s

    @property
    def left_s(self) -> float:
        """Seconds that are left; zero once the moment has passed, never negative."""
        return max(0.0, self._at - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether the moment is over."""
        return self.left_s == 0.0


def wait_until(condition: Callable[[], T], *, within_s: float = 10, what: str) -> T:
    """Give the first truthy value of `condition`; it is asked at least once.

    Args:
        condition: asked again and again in the calling thread. What it raises passes through.
        within_s: seconds until the wait fails.
        what: what is waited for, as it reads after "waited for": "the port".

    Raises:
        AssertionError: the deadline passed; the text has `what` and the last value.
    """
    deadline = Deadline(within_s)
    while True:
        value = condition()
        if value:
            return value
        if deadline.passed:
            raise AssertionError(f"waited {within_s:g} s for {what}; the last value was {value!r}")
        time.sleep(min(POLL_S, deadline.left_s))


@dataclass(slots=True)
class PlainWait:
    """What waiting for some seconds takes on this machine, with all that it has to do now."""

    took_s: float = 0.0


@contextmanager
def beside_a_plain_wait(seconds: float, *, threads: int = 1) -> Iterator[PlainWait]:
    """Let as many threads wait for so long while the block runs; after it, the slowest is known.

    What promises to wait no longer is compared with that: a busy machine delays both.
    """
    plain = PlainWait()
    took_s: list[float] = []

    def wait() -> None:
        began_s = time.monotonic()
        threading.Event().wait(seconds)
        took_s.append(time.monotonic() - began_s)

    waiting = [threading.Thread(target=wait) for _ in range(threads)]
    for thread in waiting:
        thread.start()
    try:
        yield plain
    finally:
        for thread in waiting:
            thread.join()
        plain.took_s = max(took_s)
