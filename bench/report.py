"""The report: Markdown of the results, ratios first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.cases import CASES
from bench.peers import PEERS
from bench.reach import reached
from bench.results import Results
from bench.tables import TABLES, figure, table_of

__all__ = ["text", "write"]

WORDS = {True: "yes", False: "**no**", None: "–"}
OPENING = """\
# Speed, measured

For people who want the figures, and how they were taken; [what they mean](../performance.md) is
another page.
`make bench` measured all of it in one run and wrote this page; the values of every round are in
[results.json](results.json).

Each server was started from its package and had one core for itself, together with its broker;
the load generator, a C program, had another core. Peers took turns within a round, and each figure
is the median of the rounds, with the least and the most behind it. Processor time is what the
kernel counted for the serving processes and their brokers; over loopback that has the kernel's
work of delivering to the client, too. Every delivery was checked: each event once, and in order.
Compare the figures with each other and not with those of another machine.
"""


def write(results: Results, folder: Path) -> None:
    """Write the report into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.md").write_text(text(results), encoding="utf-8")


def text(results: Results) -> str:
    """The page."""
    parts = [OPENING]
    if results.quick:
        parts.append("**This was a smoke run: small, one round. Its figures mean nothing.**\n")
    parts += ["## What was to be reached\n", _lines(_reached(results))]
    parts.append("![Processor time, bursts and memory](ratios.svg)\n")
    parts.append("![Growth](growth.svg)\n")
    for name, table in TABLES.items():
        if name in results.values or name in results.failures:
            parts += [f"## {CASES[name].title}\n", f"{table.note}\n"]
            parts.append(_lines(table_of(name, results)))
            parts += [f"{line}\n" for line in _troubles(name, results)]
    for name in ("growth", "processes"):
        if name in results.values:
            parts += [f"## {CASES[name].title}\n", _lines(_growth(name, results))]
    if results.micro:
        parts += ["## Our own code alone\n", _lines(_micro(results))]
    parts += ["## The machine\n", _lines(_machine(results))]
    return "\n".join(parts)


def _lines(lines: Iterator[str] | list[str]) -> str:
    return "\n".join(lines) + "\n"


def _reached(results: Results) -> Iterator[str]:
    yield "| case | reach | measured | met |"
    yield "| --- | --- | --- | --- |"
    for one in reached(results):
        yield f"| {one.case} | {one.reach} | {one.measured} | {WORDS[one.met]} |"


def _troubles(case: str, results: Results) -> Iterator[str]:
    """Rounds that failed, of peers that have figures all the same."""
    for name, reasons in sorted(results.failures.get(case, {}).items()):
        if name in results.values.get(case, {}):
            reason = " ".join(reasons[0].split())
            yield f"{PEERS[name].title}: {len(reasons)} rounds gave nothing ({reason})."


def _growth(case: str, results: Results) -> Iterator[str]:
    peers = results.values[case]
    names = {name for measures in peers.values() for name in measures}
    at = sorted({int(name.partition("@")[2]) for name in names})
    what = "streams" if case == "growth" else "processes"
    headings = [f"{count:,} {what}" for count in at]
    for measure, title in (
        ("cpu_us", "CPU per delivery, µs"),
        ("delay_ms", "until the last stream has it, ms"),
    ):
        yield f"| {title} | {' | '.join(headings)} |"
        yield f"| --- |{' ---: |' * len(at)}"
        for peer in CASES[case].peers:
            if peer in peers:
                values = [results.median(case, peer, f"{measure}@{count}") for count in at]
                cells = ["" if value is None else figure(value) for value in values]
                yield f"| {PEERS[peer].title} | {' | '.join(cells)} |"
        yield ""


def _micro(results: Results) -> Iterator[str]:
    yield "| microbenchmark | median, µs | least, µs |"
    yield "| --- | ---: | ---: |"
    for name, values in sorted(results.micro.items()):
        yield f"| `{name}` | {figure(values['median'] * 1e6)} | {figure(values['min'] * 1e6)} |"


def _machine(results: Results) -> Iterator[str]:
    yield "| what | which |"
    yield "| --- | --- |"
    rounds = [
        len(values)
        for case in results.values.values()
        for measures in case.values()
        for values in measures.values()
    ]
    yield f"| rounds | {min(rounds, default=0)} to {max(rounds, default=0)} |"
    for name, value in {**results.machine, **results.versions}.items():
        yield f"| {name} | {value} |"
