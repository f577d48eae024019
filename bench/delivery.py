"""Cases about delivering: one event to many streams, bursts, private channels, resuming, growth.

Each function runs one peer once and gives its measures by name; units are in the names. All figures
of processor time are of the serving processes and their brokers.
"""

from __future__ import annotations

import statistics
import time
import timeit
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.load import Load, LoadFailed, loading
from bench.peers import Peer, start_ours
from bench.site import Site, made
from flask_eventstream import Event
from harness.waiting import wait_until

__all__ = ["Measures", "Scale", "Scene", "on_stage"]

Measures = dict[str, float]
OPEN_WITHIN_S = 120.0
DELIVER_WITHIN_S = 30.0
#: Whatever a server does behind a stream's head is done by then.
SETTLE_S = 0.5
#: A doubled event comes at once, if it comes.
DOUBLES_WITHIN_S = 0.2
#: Events before anything is measured; Node gets faster while it runs.
WARM_UPS = 3
WARM_DELIVERIES = 20_000
ALONE = 20
#: The last one counts.
PRIVATE_REPEATS = 4
NS_PER_MS = 1e6


@dataclass(frozen=True, slots=True)
class Scale:
    """How large the cases are: whole, or as a smoke run."""

    events: int
    burst: int
    streams: int
    many: int
    private: int
    idle_s: float
    pings: int
    publishes: int
    behind: int
    growth: tuple[int, ...]
    processes: tuple[int, ...]


@dataclass
class Scene:
    """A server, its load, and where the events stand."""

    site: Site
    load: Load
    streams: int = 0
    sequence: int = 0
    delivered: int = 0

    def open(self, count: int, channel: str = "all") -> float:
        """Open more streams of a channel. Returns how many seconds it took."""
        began_s = time.monotonic()
        self.load.expect(self.sequence + 1)
        path, needs_head = self.site.stream_path(channel), self.site.needs_head
        answer = self.load.open(count, path, needs_head=needs_head, within_s=OPEN_WITHIN_S)
        self.streams += count
        subscribed = self.site.subscribed
        if subscribed is None:
            return answer.elapsed_s
        wait_until(
            lambda: self._none_refused() and subscribed() >= self.streams,
            within_s=OPEN_WITHIN_S,
            what="subscriptions",
        )
        return time.monotonic() - began_s

    def _none_refused(self) -> bool:
        answer = self.load.run(0)
        if answer.refused:
            raise LoadFailed(f"{answer.refused:,} streams were refused")
        return True

    def send(self, size: int = 0) -> float:
        """One event to all streams. Returns milliseconds until the last of them had it."""
        self.sequence += 1
        self.delivered += self.streams
        sent_ns = self.site.publish(self.sequence, size=size)
        last_ns = self.load.wait(self.delivered, within_s=DELIVER_WITHIN_S).last_ns
        return (last_ns - sent_ns) / NS_PER_MS

    def settle(self) -> None:
        """Let all be as it is while a server has been running."""
        self.load.run(SETTLE_S)
        for _ in range(max(WARM_UPS, WARM_DELIVERIES // self.streams)):
            self.send()
        self.load.delays()

    def take(self, events: int) -> None:
        """Wait for events that were published otherwise."""
        self.sequence += events
        self.delivered += events * self.streams
        self.load.wait(self.delivered, within_s=DELIVER_WITHIN_S)


@contextmanager
def on_stage(peer: Peer, program: Path) -> Iterator[Scene]:
    """Run a peer and a load for the length of a block."""
    with peer.start() as site, loading(program, site.port) as load:
        yield Scene(site, load)


@dataclass
class Cost:
    """Processor time over a block, filled in at its end."""

    cpu_us: float = 0.0
    broker_us: float = 0.0
    load_share: float = 0.0
    elapsed_s: float = 0.0


@contextmanager
def costing(scene: Scene) -> Iterator[Cost]:
    """What a block cost the serving processes, and which share of a core the load used."""
    cost = Cost()
    load_s, began_s = scene.load.run(0).cpu_s, time.monotonic()
    cpu, broker = scene.site.cpu_ns(), scene.site.broker_cpu_ns()
    yield cost
    cost.cpu_us = (scene.site.cpu_ns() - cpu) / 1e3
    cost.broker_us = (scene.site.broker_cpu_ns() - broker) / 1e3
    cost.elapsed_s = time.monotonic() - began_s
    cost.load_share = (scene.load.run(0).cpu_s - load_s) / cost.elapsed_s


def fanout(peer: Peer, program: Path, scale: Scale, *, streams: int, size: int = 0) -> Measures:
    """One event at a time to many streams of one channel."""
    with on_stage(peer, program) as scene:
        publish_us = _publishing_us(scene)
        scene.open(streams)
        scene.settle()
        events = max(3, scale.events * 1000 // streams) if streams > scale.streams else scale.events
        with costing(scene) as cost:
            delays_ms = [scene.send(size) for _ in range(events)]
        scene.load.run(DOUBLES_WITHIN_S)
        deliveries = events * streams
        return {
            "cpu_us": cost.cpu_us / deliveries,
            "broker_us": cost.broker_us / deliveries,
            "publish_us": publish_us,
            "event_us": cost.cpu_us / events,
            "delay_ms": statistics.median(delays_ms),
            "p99_ms": scene.load.delays().p99_ms,
            "load_share": cost.load_share,
        }


def _publishing_us(scene: Scene) -> float:
    """Processor time of publishing an event that nobody reads."""
    scene.site.publish(1, channel="nobody")
    with costing(scene) as cost:
        for number in range(ALONE):
            scene.site.publish(number, channel="nobody")
    return cost.cpu_us / ALONE


def burst(peer: Peer, program: Path, scale: Scale, *, together: bool = False) -> Measures:
    """Many events back to back to many streams of one channel."""
    with on_stage(peer, program) as scene:
        scene.open(scale.streams)
        scene.settle()
        single_ms = statistics.median(scene.send() for _ in range(5))
        publish = scene.site.together if together else scene.site.burst
        with costing(scene) as cost:
            began_ns = time.monotonic_ns()
            publish(scene.sequence + 1, scale.burst)
            scene.take(scale.burst)
        took_s = (scene.load.run(DOUBLES_WITHIN_S).last_ns - began_ns) / 1e9
        deliveries = scale.burst * scale.streams
        return {
            "per_s": deliveries / took_s,
            "cpu_us": cost.cpu_us / deliveries,
            "single_ms": single_ms,
            "load_share": cost.load_share,
        }


def private(peer: Peer, program: Path, scale: Scale, *, together: bool = False) -> Measures:
    """One event to each of many streams that all have a channel of their own."""
    with on_stage(peer, program) as scene:
        scene.open(scale.private, channel="c%d")
        scene.load.run(SETTLE_S)
        publish = scene.site.private_to if together else scene.site.private
        for repeat in range(PRIVATE_REPEATS):
            scene.load.delays()
            with costing(scene) as cost:
                began_ns = time.monotonic_ns()
                publish(repeat + 1, scale.private)
                scene.take(1)
            last_ns = scene.load.run(DOUBLES_WITHIN_S).last_ns
        return {
            "cpu_us": cost.cpu_us / scale.private,
            "broker_us": cost.broker_us / scale.private,
            "per_s": scale.private / (last_ns - began_ns) * 1e9,
            "p99_ms": scene.load.delays().p99_ms,
            "load_share": cost.load_share,
        }


def resume(peer: Peer, program: Path, scale: Scale) -> Measures:
    """All clients leave, miss events, and come back at once, each with its last event ID."""
    with on_stage(peer, program) as scene:
        scene.open(scale.streams)
        scene.settle()
        scene.load.cut()
        scene.load.run(SETTLE_S)
        scene.site.burst(scene.sequence + 1, scale.behind)
        with costing(scene) as cost:
            began_ns = time.monotonic_ns()
            scene.load.resume(within_s=OPEN_WITHIN_S)
            scene.take(scale.behind)
        took_s = (scene.load.run(DOUBLES_WITHIN_S).last_ns - began_ns) / 1e9
        scene.send()
        return {
            "took_s": took_s,
            "cpu_us": cost.cpu_us / scale.streams,
            "load_share": cost.load_share,
        }


def encode(peer: Peer, program: Path, scale: Scale, *, size: int) -> Measures:
    """What encoding an event is of delivering it to many streams."""
    measures = fanout(peer, program, scale, streams=scale.streams, size=size)
    if peer.name.startswith("ours"):
        data = made(1, size)
        times = timeit.repeat(lambda: Event(data).encode("aaaaaaaa-1"), number=200, repeat=5)
        measures["encode_us"] = statistics.median(times) / 200 * 1e6
        measures["encode_share"] = measures["encode_us"] / measures["event_us"]
    return measures


def growth(peer: Peer, program: Path, scale: Scale) -> Measures:
    """One event at a time to more and more streams of one server."""
    measures: Measures = {}
    with on_stage(peer, program) as scene:
        for streams in scale.growth:
            scene.open(streams - scene.streams)
            scene.settle()
            events = max(3, scale.events // 3)
            with costing(scene) as cost:
                delays_ms = [scene.send() for _ in range(events)]
            measures[f"cpu_us@{streams}"] = cost.cpu_us / (events * streams)
            measures[f"delay_ms@{streams}"] = statistics.median(delays_ms)
    return measures


def processes(peer: Peer, program: Path, scale: Scale) -> Measures:
    """The same streams over more and more processes of one application."""
    measures: Measures = {}
    broker = peer.name.removeprefix("ours-")
    for workers in scale.processes:
        several = Peer(peer.name, peer.title, partial(start_ours, broker, workers=workers))
        with on_stage(several, program) as scene:
            scene.open(scale.streams * 4)
            scene.settle()
            with costing(scene) as cost:
                delays_ms = [scene.send() for _ in range(scale.events)]
            measures[f"cpu_us@{workers}"] = cost.cpu_us / (scale.events * scene.streams)
            measures[f"delay_ms@{workers}"] = statistics.median(delays_ms)
    return measures
