"""A running server with an application in it, and how a test speaks to it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask_eventstream import Publisher
from harness import servers
from harness.process import is_alive
from harness.servers import Server
from harness.streams import Reader, get, post
from harness.waiting import wait_until
from harness.wire import Wire, request_line

__all__ = ["APPS", "GUNICORN", "Site", "run_site"]

APPS = Path(__file__).parent / "apps"
GUNICORN = tuple(kind for kind in servers.KINDS if kind.startswith("gunicorn"))

# What no log may show: that streams hold threads after all, and anything that went wrong.
# Where a test starves the server, it may complain of itself, but of nothing of ours.
HOLDS_THREADS = "each stream holds a worker thread"
FRAME_OF_OURS = "/flask_eventstream/"
SIGNS_OF_TROUBLE = (
    *("Traceback", "Exception ignored", "WORKER TIMEOUT", "Error handling request"),
    # What ASGI servers say of an application that broke the rules.
    *("without completing response", "ASGI callable", "Unexpected ASGI", "Unexpected message"),
)


@dataclass(frozen=True, slots=True)
class Site:
    """One server. Belongs to the test's thread."""

    server: Server
    broker_url: str
    publisher: Publisher
    """Publishes from the test's own process."""

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def worker(self) -> int:
        """The process that answers requests, where there is exactly one."""
        (pid,) = self.server.worker_pids()
        return pid

    def stream_url(self, *channels: str) -> str:
        return f"{self.url}/stream?" + "&".join(f"channel={name}" for name in channels)

    def read(self, *channels: str, **more: Any) -> Reader:
        return Reader(self.stream_url(*channels), **more)

    def publish_through_worker(self, data: str, channel: str) -> int:
        """Publish through a view, and give the process that ran it."""
        return int(post(f"{self.url}/publish?channel={channel}", data.encode()).text)

    def ping(self, timeout_s: float = 10) -> int:
        """Make an ordinary request, and give the process that answered it."""
        return int(get(f"{self.url}/ping", timeout_s=timeout_s).text.removeprefix("pong "))

    def answering(self) -> int:
        """The process that answers, or 0: one that is ending may take a request along.

        Waits for the end of the connection, too: uvicorn does not count a request as served whose
        client leaves before.
        """
        try:
            with Wire(self.url) as wire:
                line = request_line(f"{self.url}/ping")
                wire.send(line, "Host: localhost", "Connection: close", "")
                return int(wire.read_to_end().partition(b"pong ")[2] or 0)
        except (AssertionError, OSError):
            return 0

    def ping_times_s(self, count: int) -> list[float]:
        """Make ordinary requests one after the other, and give how long each took."""
        times_s = []
        for _ in range(count):
            began = time.perf_counter()
            self.ping()
            times_s.append(time.perf_counter() - began)
        return times_s

    def stats(self) -> dict[str, Any]:
        return dict(json_of(f"{self.url}/stats"))

    def wait_streams(self, count: int, within_s: float = 10) -> None:
        """Wait until the worker says that so many streams are open."""
        wait_until(
            lambda: self.stats()["streams"] == count, within_s=within_s, what=f"{count} streams"
        )

    def wait_replaced(self, old: int, within_s: float = 20) -> None:
        """Wait until the process `old` is gone and another one answers."""
        wait_until(lambda: not is_alive(old), within_s=within_s, what=f"the end of worker {old}")
        self.wait_answered_by_another(old, within_s)

    def wait_answered_by_another(self, old: int, within_s: float = 20) -> None:
        """Wait until another process than `old` answers, whether that is gone or not."""
        wait_until(lambda: self.answering() not in {0, old}, within_s=within_s, what="a new worker")

    def assert_no_trouble(self, *, hands_off: bool = True, starved: bool = False) -> None:
        log = self.server.log()
        signs = (FRAME_OF_OURS,) if starved else SIGNS_OF_TROUBLE
        if hands_off:
            signs = (*signs, HOLDS_THREADS)

        assert [sign for sign in signs if sign in log] == [], log


def json_of(url: str) -> Any:
    return json.loads(get(url).body)


@contextmanager
def run_site(
    kind: str,
    folder: Path,
    *,
    app: str = "plain:app",
    apps: Path = APPS,
    options: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    port: int = 0,
    starved: bool = False,
    hands_off: bool = True,
    **settings: object,
) -> Iterator[Site]:
    """Run a server whose log is free of trouble up to its end, or the test fails.

    Args:
        kind: what `servers.serve` knows.
        folder: where the log of events lies, and a database for applications that have one; a
            second site in the same folder reads on in them.
        app: a module of `apps` and an attribute in it, which has the views that `Site` asks.
        apps: a folder of modules.
        options: command line arguments for the server.
        env: variables for it, beside the configuration.
        port: to come back where an earlier site was.
        starved: the server may log tracebacks of its own, but none that leads through ours.
        hands_off: False where the log may say that streams hold threads.
        settings: the application's configuration.
    """
    broker_url = f"sqlite:///{folder / 'events.db'}"
    given = {
        "SSE_BROKER_URL": broker_url,
        "SSE_RETRY_MS": 500,
        "SQLALCHEMY_DATABASE_URI": f"sqlite:///{folder / 'shop.db'}",
        **settings,
    }
    flask_env = {f"FLASK_{key}": str(value) for key, value in given.items()}
    variables = {**flask_env, **(env or {})}
    with servers.serve(kind, app, cwd=apps, env=variables, options=options, port=port) as server:
        site = Site(server, broker_url, Publisher(broker_url))
        try:
            yield site
            server.stop()
        finally:
            print(f"--- log of {server!r}\n{server.log()}")
        hands_off = hands_off and given.get("SSE_HANDOFF") != "off"
        site.assert_no_trouble(hands_off=hands_off, starved=starved)
