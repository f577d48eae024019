"""Waiting for a condition, always with a deadline and never for luck."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

__all__ = ["Deadline", "wait_until"]

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
