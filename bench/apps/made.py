"""The events that every Python server of the benchmark publishes by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

Publish = Callable[[str, str], object]


def made(sequence: int, size: int = 0) -> str:
    """An event's data: its number, the time in nanoseconds, and filling up to ``size`` bytes."""
    return f"{sequence} {time.monotonic_ns()} ".ljust(size, "x")


def burst(arguments: Mapping[str, str], publish: Publish) -> None:
    """Publish ``count`` events to one channel, one after another."""
    first, size = int(arguments["first"]), int(arguments.get("size", "0"))
    for number in range(int(arguments["count"])):
        publish(made(first + number, size), arguments["channel"])


def private(arguments: Mapping[str, str], publish: Publish) -> None:
    """Publish one event to each of the channels c0, c1, ..."""
    for number in range(int(arguments["count"])):
        publish(made(int(arguments["first"])), f"c{number}")
