"""The three ways out of an application: handed off, through a thread, and under ASGI."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from live.site import Site, run_site

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


def run_way(
    way: Way,
    folder: Path,
    module: str,
    *,
    packages: Sequence[Path] = (),
    **settings: object,
) -> AbstractContextManager[Site]:
    """Run an application of `APPS`; the test fails if the server's log shows trouble.

    Args:
        way: one of `WAYS`.
        folder: where the log of events and the database lie.
        module: a module of `APPS` with `app`, and `asgi` around it.
        packages: folders that come before those of the environment.
        settings: the application's configuration.
    """
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    folders = [*packages, APPS, *filter(None, inherited)]
    return run_site(
        way.kind,
        folder,
        app=f"{module}:{'asgi' if way.is_asgi else 'app'}",
        apps=APPS,
        options=way.options,
        env={"PYTHONPATH": os.pathsep.join(map(str, folders))},
        **{**way.settings, **settings},
    )
