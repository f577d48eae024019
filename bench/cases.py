"""Which cases there are, who takes part in each, and how large they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import delivery, keeping
from bench.delivery import Measures, Scale
from bench.peers import Peer
from bench.programs import CannotRun

__all__ = ["CASES", "QUICK", "WHOLE", "Case", "chosen"]

WHOLE = Scale(
    events=30,
    burst=500,
    streams=1000,
    many=10_000,
    private=5000,
    idle_s=30.0,
    pings=2000,
    publishes=5000,
    behind=100,
    growth=(1000, 2000, 5000, 10_000, 15_000),
    processes=(1, 2, 4),
)
QUICK = Scale(
    events=3,
    burst=20,
    streams=100,
    many=300,
    private=200,
    idle_s=2.0,
    pings=100,
    publishes=300,
    behind=10,
    growth=(100, 200),
    processes=(1, 2),
)

OURS = ("ours-memory", "ours-sqlite", "ours-redis", "ours-uvicorn")
OTHERS = ("nchan", "better-sse", "sse-starlette", "django", "flask-sse")
ALL = ("floor", *OURS, *OTHERS)
# 10,000 streams of flask-sse are 20,000 descriptors: often more than one process may have.
MANY = (*ALL[:-1], "flask-sse-2")
# Without storage, django-eventstream loses what is more than ten events behind.
BURSTING = (*ALL, "django-storage")
LOGGED = (*OURS, "nchan", "django-storage")
THREADED = ("ours-gthread", "ours-gthread-redis")
GROWING = ("floor", "ours-sqlite", "ours-redis", "nchan", "better-sse")

Run = Callable[[Peer, Path, Scale], Measures]


@dataclass(frozen=True, slots=True)
class Case:
    """One table of the report."""

    name: str
    title: str
    peers: Sequence[str]
    run: Run


def _wide(peer: Peer, program: Path, scale: Scale) -> Measures:
    return delivery.fanout(peer, program, scale, streams=scale.many)


def _fanout(peer: Peer, program: Path, scale: Scale) -> Measures:
    return delivery.fanout(peer, program, scale, streams=scale.streams)


_LIST = [
    Case("fanout-1000", "One event to 1,000 streams", ALL, _fanout),
    Case("fanout-10000", "One event to 10,000 streams", MANY, _wide),
    Case("burst", "500 events back to back to 1,000 streams", BURSTING, delivery.burst),
    Case(
        "together",
        "The same burst with one call (`publish_many`)",
        OURS,
        partial(delivery.burst, together=True),
    ),
    Case("private", "5,000 private channels, one event each", ALL, delivery.private),
    Case(
        "private-to",
        "The same with one call (`publish_to`)",
        OURS,
        partial(delivery.private, together=True),
    ),
    Case("opening", "Opening 5,000 streams", ALL, keeping.opening),
    Case("idle", "10,000 idle streams with heartbeats", MANY, keeping.idle),
    Case("requests", "Ordinary requests beside 10,000 streams", THREADED, keeping.requests),
    Case("busy", "A fan-out beside a request that computes", THREADED, keeping.busy),
    Case("publish", "Publishing one at a time from a view", OURS[:3], keeping.publish),
    Case("resume", "1,000 clients come back, 100 events behind", LOGGED, delivery.resume),
    Case(
        "encode-1k",
        "One event of 1 KB to 1,000 streams",
        ("floor", "ours-memory"),
        partial(delivery.encode, size=1024),
    ),
    Case(
        "encode-64k",
        "One event of 64 KB to 1,000 streams",
        ("floor", "ours-memory"),
        partial(delivery.encode, size=65_536),
    ),
    Case("growth", "1,000 to 15,000 streams on one process", GROWING, delivery.growth),
    Case(
        "processes",
        "4,000 streams on one to four processes",
        ("ours-sqlite", "ours-redis"),
        delivery.processes,
    ),
]
CASES = {case.name: case for case in _LIST}


def chosen(words: Sequence[str]) -> list[Case]:
    """The cases whose names begin with one of the words; all where there is none.

    Raises:
        CannotRun: A word is the beginning of no name.
    """
    wrong = [word for word in words if not any(name.startswith(word) for name in CASES)]
    if wrong:
        raise CannotRun(f"no case is called {', '.join(wrong)}; there are {', '.join(CASES)}")
    return [c for c in _LIST if not words or any(c.name.startswith(word) for word in words)]
