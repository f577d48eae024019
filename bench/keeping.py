"""Cases about holding streams: opening, memory, heartbeats, and requests beside all that."""

from __future__ import annotations

import http.client
import json
import statistics
import subprocess
import threading
import time
from pathlib import Path

from bench.delivery import NS_PER_MS, SETTLE_S, Measures, Scale, Scene, costing, on_stage
from bench.load import LoadFailed
from bench.machine import load_core, pinned
from bench.peers import Peer
from bench.programs import answers, compiled
from bench.site import made
from flask_eventstream import Publisher

__all__ = ["busy", "idle", "opening", "publish", "requests"]

#: The first streams, so that what a worker needs once is not counted per stream.
FIRST = 100
REQUESTS = 300
#: An event this often while requests are timed.
EVENT_PERIOD_S = 0.5
#: Between two requests: no whole part of the events' period, so that they drift past each other.
PING_PAUSE_US = 7300
PINGS_WITHIN_S = 180
BUSY_EVENTS = 20
BUSY_PAUSE_S = 0.05
BURN_S = 30


def opening(peer: Peer, program: Path, scale: Scale) -> Measures:
    """Open streams as fast as the server takes them, and ask ordinary requests for comparison."""
    with on_stage(peer, program) as scene:
        scene.open(FIRST)
        scene.load.run(SETTLE_S)
        with costing(scene) as cost:
            took_s = scene.open(scale.private)
            scene.load.run(SETTLE_S)
        request_us = 0.0
        if peer.name != "floor":  # it knows nothing but streams
            with costing(scene) as asking:
                for _ in range(REQUESTS):
                    answers(scene.site.port)
            request_us = asking.cpu_us / REQUESTS
        return {
            "per_s": scale.private / took_s,
            "cpu_us": cost.cpu_us / scale.private,
            "request_us": request_us,
            "load_share": cost.load_share,
        }


def idle(peer: Peer, program: Path, scale: Scale) -> Measures:
    """Memory of many streams, and what it costs to keep them while nothing happens."""
    with on_stage(peer, program) as scene:
        scene.open(FIRST)
        scene.settle()
        resident = scene.site.resident_bytes()
        scene.open(scale.many - FIRST)
        scene.load.run(SETTLE_S)
        grown = scene.site.resident_bytes() - resident
        before = scene.load.run(0)
        with costing(scene) as cost:
            answer = scene.load.run(scale.idle_s)
        return {
            "bytes": grown / (scale.many - FIRST),
            "cpu_percent": cost.cpu_us / cost.elapsed_s / 1e4,
            "heartbeats": ((answer.comments + answer.other) - (before.comments + before.other))
            / scale.many,
        }


def requests(peer: Peer, program: Path, scale: Scale) -> Measures:
    """An ordinary request beside many streams: while they are idle, and while events go out."""
    with on_stage(peer, program) as scene:
        scene.open(scale.many)
        scene.settle()
        pinging = compiled("ping", program.parent)
        idle_ms = _ping(pinging, scene, scale.pings)
        with _publishing(scene):
            busy_ms = _ping(pinging, scene, scale.pings)
        scene.load.wait(scene.delivered, within_s=60)
        measures = {f"idle_{name}": value for name, value in idle_ms.items()}
        measures |= {f"busy_{name}": value for name, value in busy_ms.items()}
        for name in ("p50_ms", "p95_ms", "p99_ms"):
            measures[f"more_{name}"] = busy_ms[name] - idle_ms[name]
        return measures


def _ping(program: Path, scene: Scene, count: int) -> dict[str, float]:
    arguments = [str(program), str(scene.site.port), "/ping", str(count), str(PING_PAUSE_US)]
    with pinned(load_core()):
        done = subprocess.run(
            arguments, capture_output=True, text=True, timeout=PINGS_WITHIN_S, check=False
        )
    if done.returncode:
        raise LoadFailed(f"ping: {done.stderr}")
    return {name: float(value) for name, value in json.loads(done.stdout).items()}


class _publishing:  # noqa: N801  used as a block, like costing
    """An event to all streams every half second, from a thread, for the length of a block."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(60)

    def _work(self) -> None:
        while not self._over.wait(EVENT_PERIOD_S):
            self._scene.sequence += 1
            self._scene.delivered += self._scene.streams
            self._scene.site.publish(self._scene.sequence)


def busy(peer: Peer, program: Path, scale: Scale) -> Measures:
    """A fan-out beside a request that keeps the interpreter busy. Another process publishes."""
    with on_stage(peer, program) as scene:
        scene.open(scale.streams)
        scene.settle()
        publisher = Publisher(scene.site.notes["broker"])
        quiet_ms = _spaced(scene, publisher)
        burning = threading.Thread(target=_burn, args=(scene.site.port,), daemon=True)
        burning.start()
        time.sleep(SETTLE_S)
        busy_ms = _spaced(scene, publisher)
        measures = {
            "quiet_ms": statistics.median(quiet_ms),
            "busy_ms": statistics.median(busy_ms),
            "quiet_max_ms": max(quiet_ms),
            "busy_max_ms": max(busy_ms),
        }
        measures["over_ms"] = measures["busy_ms"] - 2 * measures["quiet_ms"]
        return measures


def _spaced(scene: Scene, publisher: Publisher) -> list[float]:
    delays_ms = []
    for _ in range(BUSY_EVENTS):
        time.sleep(BUSY_PAUSE_S)
        scene.sequence += 1
        scene.delivered += scene.streams
        data = made(scene.sequence)
        publisher.publish(data, channel="all")
        last_ns = scene.load.wait(scene.delivered, within_s=60).last_ns
        delays_ms.append((last_ns - int(data.split(" ")[1])) / NS_PER_MS)
    return delays_ms


def _burn(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2 * BURN_S)
    try:
        connection.request("GET", f"/burn?seconds={BURN_S}")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        pass  # the server was stopped meanwhile: it has burnt enough
    finally:
        connection.close()


def publish(peer: Peer, _program: Path, scale: Scale) -> Measures:
    """Publish one at a time from a view, without readers; beside redis-py's PUBLISH on Redis."""
    with peer.start() as site:
        _rate(site.post("/rate", {"count": FIRST}))
        ours = _rate(site.post("/rate", {"count": scale.publishes}))
        measures = {"per_s": ours["per_s"], "cpu_us": ours["cpu_us"]}
        if site.broker_pids:
            bare = _rate(site.post("/rate", {"count": scale.publishes, "bare": 1}))
            again = _rate(site.post("/rate", {"count": scale.publishes}))
            # Before and after, so that a machine that changes its pace changes both.
            measures["per_s"] = (ours["per_s"] + again["per_s"]) / 2
            measures["bare_per_s"] = bare["per_s"]
            measures["of_bare"] = measures["per_s"] / bare["per_s"]
        return measures


def _rate(answer: bytes) -> dict[str, float]:
    rates: dict[str, float] = json.loads(answer)
    return rates
