"""The tables of the report: which measures of a case are shown, and what they are compared with."""

from __future__ import annotations

from dataclasses import dataclass

from bench.cases import CASES
from bench.peers import PEERS
from bench.results import Results, Spread

__all__ = ["TABLES", "Column", "Table", "figure", "table_of"]


@dataclass(frozen=True, slots=True)
class Column:
    """One measure: its heading, and what it is divided by to be in the heading's unit."""

    measure: str
    heading: str
    divisor: float = 1.0


@dataclass(frozen=True, slots=True)
class Table:
    """One case.

    Attributes:
        base: The peer of which all are a multiple, and how that column is headed; the first column
            is the measure. Without a base there is no such column.
        note: What must be known to read it.
    """

    columns: tuple[Column, ...]
    note: str
    base: str = ""
    against: str = ""


LOAD = Column("load_share", "load generator, share of its core")
DELIVERY = (
    Column("cpu_us", "CPU per delivery, µs"),
    Column("broker_us", "of it Redis, µs"),
    Column("delay_ms", "until the last stream has it, ms"),
    Column("p99_ms", "99th percentile of delays, ms"),
    Column("publish_us", "CPU of a publish nobody reads, µs"),
    LOAD,
)
BURST = (
    Column("per_s", "deliveries a second, millions", 1e6),
    Column("cpu_us", "CPU per delivery, µs"),
    Column("single_ms", "a single event before, until the last stream has it, ms"),
    LOAD,
)
PRIVATE = (
    Column("cpu_us", "CPU per event, µs"),
    Column("broker_us", "of it Redis, µs"),
    Column("per_s", "events a second"),
    Column("p99_ms", "99th percentile of delays, ms"),
    LOAD,
)
ENCODE = (
    Column("cpu_us", "CPU per delivery, µs"),
    Column("event_us", "CPU per event, µs"),
    Column("encode_us", "of it encoding, µs"),
    Column("encode_share", "share of encoding"),
)
FANOUT_NOTE = (
    "One event at a time; the next is published when every stream has the last one. Each event is"
    " published by a request, which the figures include: what it costs alone is the column of a"
    " publish nobody reads, and of that each delivery bears one part in as many as there are"
    " streams."
)
REQUESTS = tuple(
    Column(f"{phase}_{part}_ms", f"{phase}, {part}, ms")
    for phase in ("idle", "busy")
    for part in ("p50", "p95", "p99")
)

TABLES = {
    "fanout-1000": Table(DELIVERY, FANOUT_NOTE, "floor", "× the floor"),
    "fanout-10000": Table(DELIVERY, FANOUT_NOTE, "floor", "× the floor"),
    "burst": Table(
        BURST,
        "One request publishes all events, one after another; to nchan, which has no code of the"
        " application, they are requests one behind the other on one connection. django-eventstream"
        " drops what a listener has not taken after ten events, unless a storage has it.",
        "nchan",
        "× nchan",
    ),
    "together": Table(BURST, "As above, and the application publishes them with one call."),
    "private": Table(
        PRIVATE,
        "One request publishes an event to each channel, one after another. CPU per event has the"
        " publishing and the delivery of one event.",
        "floor",
        "× the floor",
    ),
    "private-to": Table(PRIVATE, "As above, and the application publishes it with one call."),
    "opening": Table(
        (
            Column("per_s", "opened a second"),
            Column("cpu_us", "CPU per stream, µs"),
            Column("request_us", "CPU of an ordinary request, µs"),
            LOAD,
        ),
        "128 at a time, each over a connection of its own, until the head is there (flask-sse:"
        " until Redis has the connection, as its head waits for the first event). The ordinary"
        " request, `/ping`, comes over a new connection, too.",
        "ours-sqlite",
        "× SQLite",
    ),
    "idle": Table(
        (
            Column("bytes", "memory (RSS) per stream, kB", 1e3),
            Column("cpu_percent", "CPU, % of a core"),
            Column("heartbeats", "heartbeats per stream meanwhile"),
        ),
        "Memory of the serving processes without brokers, from the hundredth stream on. Then 30"
        " seconds in which nothing happens; heartbeats are set to 15 s where they can be set.",
        "ours-sqlite",
        "× SQLite",
    ),
    "requests": Table(
        REQUESTS,
        "`/ping` over one connection, about 130 a second, while 10,000 streams are idle, and while"
        " they get an event every half second. The client runs with real-time priority beside the"
        " load generator.",
    ),
    "busy": Table(
        (
            Column("quiet_ms", "without, median, ms"),
            Column("busy_ms", "beside it, median, ms"),
            Column("quiet_max_ms", "without, slowest, ms"),
            Column("busy_max_ms", "beside it, slowest, ms"),
        ),
        "Until the last of 1,000 streams has an event that another process published. SQLite is"
        " looked at every 20 ms, which is in both figures.",
    ),
    "publish": Table(
        (
            Column("per_s", "publishes a second"),
            Column("cpu_us", "CPU of the application, µs"),
            Column("bare_per_s", "bare PUBLISH a second"),
            Column("of_bare", "share of bare"),
        ),
        "From a view, one after another, events of 100 bytes, and nobody reads. Bare is"
        " redis-py's `publish` in the same view, on the same Redis.",
    ),
    "resume": Table(
        (
            Column("took_s", "until all had all, s"),
            Column("cpu_us", "CPU per client, µs"),
            LOAD,
        ),
        "All connect at once, each with its last event ID.",
        "ours-sqlite",
        "× SQLite",
    ),
    "encode-1k": Table(ENCODE, "Encoding is timed alone, in the same Python.", "floor", "× floor"),
    "encode-64k": Table(ENCODE, "As above.", "floor", "× floor"),
}


def figure(value: float) -> str:
    """A number with three digits, as one reads it."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:  # noqa: PLR2004  thousands get a comma and no fraction
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.1g}"  # noqa: PLR2004


def table_of(case: str, results: Results) -> list[str]:
    """The lines of a case's table: ratios first, then medians with least and most."""
    table = TABLES[case]
    columns = [c for c in table.columns if _is_measured(case, c, results)]
    ratio = [table.against] if table.base else []
    lines = [_row("server", ratio + [column.heading for column in columns])]
    lines.append(_row("---", ["---:"] * (len(ratio) + len(columns))))
    failures = results.failures.get(case, {})
    for name in CASES[case].peers:
        if name in results.values.get(case, {}):
            cells = [_ratio(case, name, table, results)] if table.base else []
            cells += [_cell(results.spread(case, name, c.measure), c) for c in columns]
            lines.append(_row(PEERS[name].title, cells))
        elif name in failures:
            empty = [""] * (len(ratio) + len(columns) - 1)
            lines.append(_row(PEERS[name].title, [f"cannot: {_plain(failures[name][0])}", *empty]))
    return lines


def _is_measured(case: str, column: Column, results: Results) -> bool:
    peers = results.values.get(case, {}).values()
    return any(any(measures.get(column.measure, ())) for measures in peers)


def _ratio(case: str, name: str, table: Table, results: Results) -> str:
    measure = table.columns[0].measure
    own, base = (results.median(case, peer, measure) for peer in (name, table.base))
    return f"**{figure(own / base)}**" if own is not None and base else ""


def _cell(spread: Spread | None, column: Column) -> str:
    if spread is None:
        return ""
    middle, least, most = (
        figure(value / column.divisor) for value in (spread.median, spread.least, spread.most)
    )
    return middle if least == most else f"{middle} ({least} – {most})"


def _row(first: str, cells: list[str]) -> str:
    return f"| {first} | {' | '.join(cells)} |"


def _plain(text: str) -> str:
    return " ".join(text.replace("|", "/").split())
