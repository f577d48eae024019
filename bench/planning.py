"""What streams and events cost here: python -m bench plan [streams|older|sqlite|redis]...

docs/explanation/scale.md plans with these figures. They come from one machine that the clients are
on too, so compare them with each other, and measure again where it matters. Light on purpose: a
minute on two cores. CPU time is counted by the kernel, so a busy neighbour changes it little.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from flask_eventstream import Event, Publisher
from flask_eventstream.brokers import broker_from_url
from flask_eventstream.log.entries import Entry, Retention
from harness.process import cpu_s, descriptors, resident_bytes
from harness.redis_server import RedisServer, run_redis
from harness.servers import serve
from harness.streams import Crowd, get
from harness.waiting import wait_until
from live.site import run_site

__all__ = ["MEASURES"]

ROOT = Path(__file__).resolve().parents[1]
STREAMS = 2000
#: flask-sse: each stream is a connection to Redis, too.
OLDER_STREAMS = 500
#: The first crowd, so that what a worker needs once is not counted per stream.
WARM_UP = 100
REQUESTS = 300
ALONE = 50
TOGETHER = 500
EVENTS = 20_000
CHANNELS = 1000
#: About what a small JSON object makes.
DATA = "x" * 100


def tell(text: str) -> None:
    """Print a finding as soon as it is there."""
    print(f"  {text}", flush=True)


def kernel_bytes() -> int:
    """What the kernel of this machine holds in its slabs, where sockets lie."""
    lines = Path("/proc/meminfo").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("Slab:"))


def measure_streams() -> None:
    """What a stream and a delivery cost a gunicorn sync worker."""
    print(f"{STREAMS} streams on one gunicorn sync worker", flush=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stdout(sys.stderr),
        run_site("gunicorn-sync", Path(folder), SSE_HEARTBEAT_S=600) as site,
        contextlib.redirect_stdout(sys.__stdout__),
    ):
        url, worker = site.stream_url("sse"), site.worker
        with Crowd(url, WARM_UP) as few:
            few.wait_opened(WARM_UP, within_s=30)
        cpu = cpu_s(worker)
        for _ in range(REQUESTS):
            get(f"{site.url}/ping")
        tell(f"CPU of an ordinary request: {(cpu_s(worker) - cpu) / REQUESTS * 1e6:.0f} µs")
        resident, kernel = resident_bytes(worker), kernel_bytes()
        files, cpu = descriptors(worker), cpu_s(worker)
        with Crowd(url, STREAMS) as crowd:
            crowd.wait_opened(STREAMS, within_s=60)
            tell(f"CPU to open a stream: {(cpu_s(worker) - cpu) / STREAMS * 1e6:.0f} µs")
            each = (resident_bytes(worker) - resident) / STREAMS
            tell(f"memory of the worker: {each:,.0f} B per stream")
            each = (kernel_bytes() - kernel) / STREAMS
            tell(f"memory of the kernel: {each:,.0f} B per connection, both ends are here")
            tell(f"descriptors: {(descriptors(worker) - files) / STREAMS:.2f} per stream")
            cpu = cpu_s(worker)
            for number in range(1, ALONE + 1):
                site.publisher.publish(DATA)
                crowd.wait_events(number, within_s=60)
            each = (cpu_s(worker) - cpu) / (ALONE * STREAMS)
            tell(f"{ALONE} events one by one: {each * 1e6:.1f} µs of CPU per delivery")
            cpu = cpu_s(worker)
            site.publisher.publish_many([DATA] * TOGETHER)
            crowd.wait_events(ALONE + TOGETHER, within_s=60)
            each = (cpu_s(worker) - cpu) / (TOGETHER * STREAMS)
            tell(f"{TOGETHER} events at once: {each * 1e6:.2f} µs of CPU per delivery")


def measure_older() -> None:
    """The same of flask-sse 1.0.0, on the worker class that its manual advises."""
    print(f"{OLDER_STREAMS} streams of flask-sse 1.0.0 on one gunicorn gevent worker", flush=True)
    apps = ROOT / "tests" / "live" / "redis" / "apps"
    with contextlib.ExitStack() as stack:
        redis_server = stack.enter_context(run_redis())
        env = {"FLASK_REDIS_URL": redis_server.url}
        server = stack.enter_context(serve("gunicorn-gevent", "older:app", cwd=apps, env=env))
        (worker,) = server.worker_pids()
        resident = resident_bytes(worker)
        clients = [stack.enter_context(asking(server.port)) for _ in range(OLDER_STREAMS)]
        # It sends nothing before the first event, not even the head.
        wait_until(
            lambda: len(redis_server.clients("pubsub")) == OLDER_STREAMS,
            within_s=60,
            what="a subscription of each stream",
        )
        each = (resident_bytes(worker) - resident) / OLDER_STREAMS
        tell(f"memory of the worker: {each:,.0f} B per stream")
        tell(f"connections to Redis: {OLDER_STREAMS}")
        cpu, redis_cpu = cpu_s(worker), cpu_s(redis_server.pid)
        for _ in range(ALONE):
            redis_server.ask("PUBLISH", "sse", json.dumps({"data": DATA}))
            for client in clients:
                while DATA.encode() not in client.recv(65_536):
                    pass
        each = (cpu_s(worker) - cpu) / (ALONE * OLDER_STREAMS)
        tell(f"{ALONE} events one by one: {each * 1e6:.1f} µs of CPU per delivery")
        each = (cpu_s(redis_server.pid) - redis_cpu) / (ALONE * OLDER_STREAMS)
        tell(f"and in Redis: {each * 1e6:.1f} µs")


def asking(port: int) -> socket.socket:
    """A client that has asked for a stream."""
    client = socket.create_connection(("127.0.0.1", port), timeout=60)
    client.sendall(b"GET /stream HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return client


def rate(count: int, work: Callable[[], object]) -> float:
    """Calls of ``work`` a second."""
    began_s = time.perf_counter()
    for _ in range(count):
        work()
    return count / (time.perf_counter() - began_s)


class Inbox:
    """Counts what a listener delivers."""

    def __init__(self) -> None:
        self.count = 0

    def deliver(self, entries: Sequence[Entry]) -> None:
        """Count them."""
        self.count += len(entries)

    def interrupted(self, channels: object, position: str) -> None:
        """Nothing is lost here."""
        raise AssertionError(channels, position)


def hear(url: str, publish: Callable[[], None], *, channels: Sequence[str]) -> float:
    """Seconds of this process's CPU per event, where another process publishes `EVENTS`."""

    async def listen() -> float:
        inbox = Inbox()
        broker = broker_from_url(url, retention=Retention(), timeout_s=5)
        listener = broker.listen(asyncio.get_running_loop(), inbox)
        await listener.subscribe(channels)
        with in_child(publish) as begin:
            used_s = time.process_time()
            begin()
            while inbox.count < EVENTS:  # noqa: ASYNC110  how long is what is measured
                await asyncio.sleep(0.05)
            used_s = time.process_time() - used_s
        listener.stop()
        await asyncio.sleep(0.1)  # its thread lets go of the file
        return used_s / EVENTS

    return asyncio.run(listen())


@contextmanager
def in_child(work: Callable[[], None]) -> Iterator[Callable[[], object]]:
    """Run something in a process of its own, once it is told to begin."""
    ours, theirs = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(ours, 1)
        work()
        os._exit(0)
    yield lambda: os.write(theirs, b"!")
    os.waitpid(pid, 0)
    os.close(ours)
    os.close(theirs)


def measure_sqlite() -> None:
    """What publishing to a file costs, and what lies there."""
    print("SQLite", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/events.db"
        publisher, event = Publisher(url), Event(DATA)
        tell(f"publish: {rate(5000, lambda: publisher.publish(event)):,.0f} a second")
        began_s = time.perf_counter()
        publisher.publish_many([event] * EVENTS, channel="b")
        took_s = time.perf_counter() - began_s
        tell(f"publish_many: {EVENTS / took_s:,.0f} a second")
        size = (Path(folder) / "events.db").stat().st_size / (EVENTS + 5000)
        tell(f"file: {size:,.0f} B per event of {len(DATA)} B")

        def publish() -> None:
            Publisher(url).publish_many([event] * EVENTS, channel="c")

        tell(f"hear: {hear(url, publish, channels=['c']) * 1e6:.1f} µs of CPU per event")


def microseconds(server: RedisServer, command: str) -> float:
    """Of Redis' time per call of a command, since the last CONFIG RESETSTAT."""
    return float(server.info("commandstats")[f"cmdstat_{command}"]["usec_per_call"])


def size_of(server: RedisServer, key: str) -> int:
    """The memory of a key."""
    return int(server.ask("MEMORY", "USAGE", key, "SAMPLES", 0))


def measure_redis() -> None:
    """What an event costs Redis, and a process that hears of it."""
    print("Redis", flush=True)
    with run_redis() as server:
        publisher, event = Publisher(server.url), Event(DATA)
        publisher.publish("warm")
        tell(f"publish: {rate(5000, lambda: publisher.publish(event)):,.0f} a second")
        with server.admin as client:
            for _ in range(2000):
                client.publish("bare", DATA)
        bare_us = microseconds(server, "publish")
        server.ask("CONFIG", "RESETSTAT")
        cpu = cpu_s(server.pid)
        publisher.publish_many([event] * EVENTS)
        cpu = (cpu_s(server.pid) - cpu) / EVENTS
        tell(f"the script: {microseconds(server, 'evalsha'):.1f} µs; a PUBLISH: {bare_us:.1f} µs")
        tell(f"CPU of the server, pipelined: {cpu * 1e6:.1f} µs per event")
        kept = server.ask("XLEN", "sse:events:{sse}")
        size = size_of(server, "sse:events:{sse}")
        tell(f"memory: {size / kept:.0f} B per event of {len(DATA)} B; it keeps {kept}")
        channels = [f"channel-{number}" for number in range(CHANNELS)]
        for name in channels:
            publisher.publish(event, channel=name)
        sizes = [size_of(server, f"sse:{kind}:{{{channels[0]}}}") for kind in ("events", "channel")]
        tell(f"memory of a channel with one event: {sizes[0]} + {sizes[1]} B")
        tell(f"memory of the log's hash: {size_of(server, 'sse:log')} B")

        def publish() -> None:
            child = Publisher(server.url)
            for number in range(EVENTS // 20):
                child.publish_many([event] * 20, channel=channels[number % CHANNELS])

        each = hear(server.url, publish, channels=channels)
        tell(f"hear: {each * 1e6:.1f} µs of CPU per event, of {CHANNELS} channels")


MEASURES = {
    "streams": measure_streams,
    "older": measure_older,
    "sqlite": measure_sqlite,
    "redis": measure_redis,
}
