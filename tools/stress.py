"""Hold thousands of streams on one gunicorn sync worker, and measure it.

    stress.py [--streams 10000] [--events 5]

Exits with 1 if a stream lost an event, got one twice, or ended; the table says what it cost.
Everything runs on this machine: the worker, the clients, and the process that pings meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from harness.process import cpu_s, resident_bytes  # noqa: E402  tests/ is no package
from harness.streams import Crowd, allow_descriptors, get  # noqa: E402
from live.site import Site, run_site  # noqa: E402

OPEN_WITHIN_S = 120.0
DELIVER_WITHIN_S = 60.0
# 100 pings a second are a load that an ordinary worker knows.
PING_PAUSE_S = 0.01
CHANNEL = "stress"
# What a worker and a client need beside their streams; the worker keeps a hundred free.
OTHER_DESCRIPTORS = 500

Row = tuple[str, str]


def main() -> int:
    """Run it and print the table."""
    arguments = parsed_arguments()
    if arguments.ping:
        ping_until_told(arguments.ping)
        return 0
    try:
        allow_descriptors(arguments.streams)
    except AssertionError as error:
        print(f"{error}\nAs root: ulimit -Hn {arguments.streams + OTHER_DESCRIPTORS}")
        return 2
    with (
        tempfile.TemporaryDirectory(prefix="stress-") as folder,
        contextlib.redirect_stdout(sys.stderr),
        run_site("gunicorn-sync", Path(folder), SSE_STREAM_LIFETIME_S=0) as site,
    ):
        rows, problems = stress(site, arguments.streams, arguments.events)
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:<{width}}  {value:>12}")
    for problem in problems:
        print(f"LOST: {problem}")
    return 1 if problems else 0


def parsed_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=5)
    parser.add_argument("--ping", help=argparse.SUPPRESS)
    return parser.parse_args()


def stress(site: Site, streams: int, events: int) -> tuple[list[Row], list[str]]:
    """Open, deliver, ping; gives the table's rows and what was lost."""
    with site.read(CHANNEL):
        site.wait_streams(1)
    site.wait_streams(0)
    worker, expected = site.worker, [f"event {number}" for number in range(events)]
    resident, began, cpu = resident_bytes(worker), time.perf_counter(), cpu_s(worker)
    with Crowd(site.stream_url(CHANNEL), streams) as crowd:
        with pinging(site) as pings_while_opening:
            crowd.wait_opened(streams, within_s=OPEN_WITHIN_S)
            open_s, open_cpu_s = time.perf_counter() - began, cpu_s(worker) - cpu
            opening_ms = pings_while_opening()
        # Each stream is registered on the hub's loop shortly after its head was sent.
        site.wait_streams(streams)
        grown = resident_bytes(worker) - resident
        with pinging(site) as pings_while_delivering:
            cpu, fan_outs_s = cpu_s(worker), []
            for number, data in enumerate(expected, start=1):
                began = time.perf_counter()
                site.publisher.publish(data, channel=CHANNEL)
                crowd.wait_events(number, within_s=DELIVER_WITHIN_S)
                fan_outs_s.append(time.perf_counter() - began)
            deliver_cpu_s = cpu_s(worker) - cpu
            delivering_ms = pings_while_delivering()
        # Whatever came twice lies before this on every stream.
        site.publisher.publish("end", channel=CHANNEL)
        crowd.wait_events(events + 1, within_s=DELIVER_WITHIN_S)
        wrong = sum(crowd.data_of(i) != [*expected, "end"] for i in range(streams))
        problems = [f"{wrong} streams did not get each event once"] if wrong else []
        problems += [f"{crowd.ended} streams ended"] if crowd.ended else []
        problems += [] if site.worker == worker else ["the worker was replaced"]
    rows = [
        ("streams on one gunicorn sync worker", f"{streams}"),
        ("events to all, each stream got each once", f"{events}" if not problems else "NO"),
        ("opened", f"{streams / open_s:.0f} /s"),
        ("worker's CPU per opened stream", f"{open_cpu_s / streams * 1e6:.0f} us"),
        ("worker's memory per stream (RSS)", f"{grown / streams / 1000:.1f} kB"),
        ("publish to last client (Python), median", f"{median(fan_outs_s) * 1e3:.0f} ms"),
        ("publish to last client, slowest", f"{max(fan_outs_s) * 1e3:.0f} ms"),
        (
            "worker's CPU per delivery, pings included",
            f"{per_delivery(deliver_cpu_s, streams * events)}",
        ),
        *ping_rows("/ping while streams open", opening_ms),
        *ping_rows("/ping while events go out", delivering_ms),
    ]
    return rows, problems


def per_delivery(seconds: float, deliveries: int) -> str:
    """The table's text for processor time of one delivery."""
    return f"{seconds / max(deliveries, 1) * 1e6:.1f} us"


def ping_rows(name: str, took_ms: list[float]) -> list[Row]:
    """The table's rows for the pings of one phase."""
    in_order = sorted(took_ms)
    p95 = in_order[int(len(in_order) * 0.95)]
    return [
        (f"{name} ({len(in_order)}), median", f"{median(in_order):.1f} ms"),
        (f"{name}, 95th percentile", f"{p95:.1f} ms"),
        (f"{name}, slowest", f"{in_order[-1]:.1f} ms"),
    ]


def median(values: list[float]) -> float:
    """The middle one."""
    return sorted(values)[len(values) // 2]


@contextmanager
def pinging(site: Site) -> Iterator[Callable[[], list[float]]]:
    """Ping from a process of its own, which the clients' work here does not delay.

    Gives what stops it and says how long each ping took, in milliseconds.
    """
    command = [sys.executable, __file__, "--ping", f"{site.url}/ping"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            if process.stdout is not None:
                process.stdout.readline()  # it says that it has begun
            yield lambda: list(json.loads(process.communicate("stop\n", timeout=30)[0]))
        finally:
            process.kill()


def ping_until_told(url: str) -> None:
    """The pinging process: until its input has a line."""
    took_ms: list[float] = []
    print("pinging", flush=True)
    while not (took_ms and select.select([sys.stdin], [], [], PING_PAUSE_S)[0]):
        began = time.perf_counter()
        get(url, timeout_s=60)
        took_ms.append((time.perf_counter() - began) * 1e3)
    print(json.dumps(took_ms))


if __name__ == "__main__":
    sys.exit(main())
