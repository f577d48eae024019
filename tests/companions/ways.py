"""The three ways out of an application: handed off, through a thread, and under ASGI."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from flask_eventstream import Publisher
from harness import servers
from harness.asgi_servers import serve_asgi
from live.site import Site

__all__ = ["APPS", "WAYS", "Way", "run_way"]

APPS = Path(__file__).parent / "apps"

#: Threads of the server whose threads streams hold, and how many of them streams may have.
THREADS = 16
HELD = THREADS // 2


@dataclass(frozen=True)
class Way:
    """A server, and how it is told to hold streams."""

    kind: str
    streams: int
    """How many streams a test may open there."""
    options: tuple[str, ...] = ()
    settings: Mapping[str, object] = field(default_factory=dict)

    @property
    def is_asgi(self) -> bool:
        return self.kind == "uvicorn"

    @property
    def hands_off(self) -> bool:
        return "SSE_HANDOFF" not in self.settings


WAYS = {
    "handed off, gunicorn sync": Way("gunicorn-sync", 200),
    "held, gunicorn gthread": Way(
        "gunicorn-gthread",
        HELD,
        # A stop waits for threads that streams hold, for half a minute by default.
        ("--threads", str(THREADS), "--graceful-timeout", "1"),
        {"SSE_HANDOFF": "off", "SSE_HEARTBEAT_S": 0.2},
    ),
    "ASGI, uvicorn": Way("uvicorn", 200),
}


@contextmanager
def run_way(
    way: Way,
    folder: Path,
    module: str,
    *,
    packages: list[Path] | None = None,
    **settings: object,
) -> Iterator[Site]:
    """Run an application of `APPS`; the test fails if the server's log shows trouble.

    Args:
        way: one of `WAYS`.
        folder: where the log of events and the database lie.
        module: a module of `APPS` with `app`, and `asgi` around it.
        packages: folders that come before those of the environment.
        settings: the application's configuration.
    """
    broker_url = f"sqlite:///{folder / 'events.db'}"
    given = {
        "SSE_BROKER_URL": broker_url,
        "SSE_RETRY_MS": 500,
        "SQLALCHEMY_DATABASE_URI": f"sqlite:///{folder / 'shop.db'}",
        **way.settings,
        **settings,
    }
    env = {f"FLASK_{key}": str(value) for key, value in given.items()}
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    env["PYTHONPATH"] = os.pathsep.join(
        map(str, [*(packages or ()), APPS, *filter(None, inherited)])
    )
    with ExitStack() as stack:
        serve = serve_asgi if way.is_asgi else servers.serve
        app = f"{module}:{'asgi' if way.is_asgi else 'app'}"
        server = stack.enter_context(serve(way.kind, app, cwd=APPS, env=env, options=way.options))
        site = Site(server, broker_url, Publisher(broker_url))
        try:
            yield site
            server.stop()
        finally:
            print(f"--- log of {server!r}\n{server.log()}")
        site.assert_no_trouble(hands_off=way.hands_off)
