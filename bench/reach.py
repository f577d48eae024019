"""What was to be reached, and whether it was: the first table of the report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from bench.cases import CASES
from bench.results import Results
from bench.tables import figure

__all__ = ["Reached", "reached"]

#: Growth is linear if a delivery costs at most this much more with more streams: noise of a run.
LINEAR = 1.15
#: Below this share of a fan-out, encoding is not visible in its profile.
VISIBLE = 0.01


@dataclass(frozen=True, slots=True)
class Reached:
    """One line."""

    case: str
    reach: str
    measured: str
    met: bool | None
    """``None`` where something was not measured."""


class Missing(Exception):
    """A measure that this run does not have."""


@dataclass(frozen=True, slots=True)
class Look:
    """Medians by case, peer and measure."""

    results: Results

    def __call__(self, case: str, peer: str, measure: str) -> float:
        """A median, or `Missing`."""
        value = self.results.median(case, peer, measure)
        if value is None:
            raise Missing(f"{case} of {peer}")
        return value

    def least(self, case: str, peer: str, measure: str) -> float:
        """A peer's best round, or `Missing`."""
        spread = self.results.spread(case, peer, measure)
        if spread is None:
            raise Missing(f"{case} of {peer}")
        return spread.least


Check = Callable[[Look], tuple[str, bool]]


def _against_floor(peer: str, case: str, most: float) -> Check:
    def check(look: Look) -> tuple[str, bool]:
        ratio = look(case, peer, "cpu_us") / look(case, "floor", "cpu_us")
        ours, floors = (
            look(case, one, "event_us") - look(case, one, "publish_us") for one in (peer, "floor")
        )
        text = f"{figure(ratio)} ×; {figure(ours / floors)} × without the request that publishes"
        return text, ratio <= most

    return check


def _below_nchan(case: str) -> Check:
    def check(look: Look) -> tuple[str, bool]:
        ratio = look(case, "ours-memory", "cpu_us") / look(case, "nchan", "cpu_us")
        return f"{figure(ratio)} × nchan", ratio < 1

    return check


def _flask_sse(case: str) -> Check:
    def check(look: Look) -> tuple[str, bool]:
        theirs = "flask-sse" if "flask-sse" in CASES[case].peers else "flask-sse-2"
        ratio = look(case, theirs, "cpu_us") / look(case, "ours-memory", "cpu_us")
        return f"{figure(ratio)} × cheaper", ratio >= 8  # noqa: PLR2004  the reach

    return check


def _burst(peer: str) -> Check:
    def check(look: Look) -> tuple[str, bool]:
        ours = look("burst", peer, "per_s")
        ratio = ours / look("burst", "nchan", "per_s")
        text = f"{figure(ratio)} ×: {figure(ours / 1e6)} million a second"
        return text, ratio >= 20  # noqa: PLR2004  the reach

    return check


def _private(peer: str) -> Check:
    def check(look: Look) -> tuple[str, bool]:
        ours = look("private", peer, "cpu_us")
        best = min(look.least("private", one, "cpu_us") for one in ("sse-starlette", "better-sse"))
        return f"{figure(ours)} µs; their best {figure(best)} µs", ours < best

    return check


def _at_most(case: str, peer: str, measure: str, *, most: float, unit: str) -> Check:
    def check(look: Look) -> tuple[str, bool]:
        value = look(case, peer, measure)
        return f"{figure(value)} {unit}", value <= most

    return check


def _at_least(case: str, peer: str, measure: str, *, least: float, unit: str) -> Check:
    def check(look: Look) -> tuple[str, bool]:
        value = look(case, peer, measure)
        return f"{figure(value)} {unit}", value >= least

    return check


def _busy(peer: str) -> Check:
    def check(look: Look) -> tuple[str, bool]:
        quiet, busy = (look("busy", peer, name) for name in ("quiet_ms", "busy_ms"))
        return f"{figure(busy)} ms; {figure(quiet)} ms without", busy <= 2 * quiet + 30

    return check


def _encoding(case: str) -> Check:
    def check(look: Look) -> tuple[str, bool]:
        share = look(case, "ours-memory", "encode_share")
        return f"{figure(share * 100)} % of the fan-out", share < VISIBLE

    return check


def _linear(case: str, peer: str) -> Check:
    def check(look: Look) -> tuple[str, bool]:
        measures = look.results.values.get(case, {}).get(peer, {})
        at = sorted(int(name.partition("@")[2]) for name in measures if name.startswith("cpu_us@"))
        if not at:
            raise Missing(f"{case} of {peer}")
        few, many = (look(case, peer, f"cpu_us@{count}") for count in (at[0], at[-1]))
        text = f"{figure(few)} µs per delivery at {at[0]:,}, {figure(many)} µs at {at[-1]:,}"
        return text, many <= few * LINEAR

    return check


def _checks() -> Iterator[tuple[str, str, Check]]:
    for streams in (1000, 10_000):
        case, name = f"fanout-{streams}", f"one event to {streams:,} streams"
        yield name, "at most 1.3 × the floor (memory)", _against_floor("ours-memory", case, 1.3)
        yield name, "below nchan", _below_nchan(case)
        yield name, "at least 8 × cheaper than flask-sse", _flask_sse(case)
        text = "at most 1.5 × the floor with Redis, everything on"
        yield name, text, _against_floor("ours-redis", case, 1.5)
    for broker in ("memory", "sqlite", "redis"):
        yield f"burst, {broker}", "at least 20 × nchan's deliveries", _burst(f"ours-{broker}")
    for broker in ("memory", "sqlite", "redis"):
        text = "below sse-starlette's and better-sse's best"
        yield f"private channels, {broker}", text, _private(f"ours-{broker}")
    opening = _at_least("opening", "ours-sqlite", "per_s", least=2500, unit="a second")
    yield "opening on a sync worker", "at least 2,500 a second", opening
    for broker in ("sqlite", "redis"):
        peer = f"ours-{broker}"
        memory = _at_most("idle", peer, "bytes", most=2500, unit="bytes")
        yield f"memory per idle stream, {broker}", "at most 2.5 kB", memory
        cpu = _at_most("idle", peer, "cpu_percent", most=2, unit="%")
        yield f"10,000 idle streams, {broker}", "under 2 % of a core", cpu
    yield from _beside_checks()
    sqlite = _at_least("publish", "ours-sqlite", "per_s", least=8000, unit="a second")
    yield "publish from a view, SQLite", "above 8,000 a second", sqlite
    redis = _at_least("publish", "ours-redis", "of_bare", least=0.75, unit="× of bare")
    yield "publish from a view, Redis", "at least 0.75 of a bare PUBLISH", redis
    for broker in ("memory", "sqlite", "redis"):
        took = _at_most("resume", f"ours-{broker}", "took_s", most=2, unit="s")
        yield f"resume, {broker}", "under 2 s", took
    for size in ("1k", "64k"):
        text = f"not visible: under {VISIBLE:.0%}"
        yield f"encoding {size.upper()}B", text, _encoding(f"encode-{size}")
    for broker in ("sqlite", "redis"):
        text = f"linear or better: at most {LINEAR} × per delivery"
        yield f"1,000 to 15,000 streams, {broker}", text, _linear("growth", f"ours-{broker}")
        yield f"1 to 4 processes, {broker}", text, _linear("processes", f"ours-{broker}")


def _beside_checks() -> Iterator[tuple[str, str, Check]]:
    for peer, broker in (("ours-gthread", "sqlite"), ("ours-gthread-redis", "redis")):
        name = f"ordinary request, {broker}"
        p95 = _at_most("requests", peer, "more_p95_ms", most=1.5, unit="ms")
        yield name, "p95 at most 1.5 ms more", p95
        p99 = _at_most("requests", peer, "more_p99_ms", most=6, unit="ms")
        yield name, "p99 at most 6 ms more", p99
        yield f"fan-out beside a busy thread, {broker}", "at most 2 × + 30 ms", _busy(peer)


def reached(results: Results) -> list[Reached]:
    """Every line, in the order of the cases."""
    look, lines = Look(results), []
    for case, text, check in _checks():
        try:
            measured, met = check(look)
        except (Missing, ZeroDivisionError) as error:
            lines.append(Reached(case, text, f"not measured: {error}", None))
        else:
            lines.append(Reached(case, text, measured, met))
    return lines
