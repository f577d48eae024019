"""What ends a server's worker, for each server that is put to it, and who starts the next one."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from harness.process import is_alive
from harness.waiting import wait_until
from live.asgi.asgi_site import run_asgi_site
from live.servers.kinds import TWO_THREADS, Kind
from live.site import Site, run_site

__all__ = ["LIVES", "Life"]

#: Requests; more than a test makes of one worker otherwise.
ENOUGH = "80"

Starts = Callable[[Path, int], AbstractContextManager[Site]]
Ends = Callable[[Site], None]
"""Ends a worker, and returns when it is gone."""


def last_worker(site: Site) -> int:
    """The process that answers, for the servers that run one at a time."""
    return site.ping()


def wait_gone(pid: int) -> None:
    wait_until(lambda: not is_alive(pid), within_s=20, what=f"the end of {pid}")


def sighup(site: Site) -> None:
    old = last_worker(site)
    site.server.signal(signal.SIGHUP)
    wait_gone(old)


def enough_requests(site: Site) -> None:
    old = last_worker(site)

    def is_gone() -> bool:
        site.answering()
        return not is_alive(old)

    wait_until(is_gone, within_s=30, what=f"the end of {old} after {ENOUGH} requests")


def sigkill(site: Site) -> None:
    old = last_worker(site)
    site.server.signal(signal.SIGKILL, old)
    wait_gone(old)


def sigterm(site: Site) -> None:
    assert site.server.stop()


@dataclass(frozen=True, slots=True)
class Life:
    """One server, and what is done to it. What is not here it does not know."""

    start: Starts
    ends: Mapping[str, Ends]
    alone: frozenset[str] = field(default=frozenset({"SIGTERM"}))
    """After these nobody starts the next one: that is an init system's work, and the test's."""


def wsgi(kind: str, *options: str) -> Starts:
    started = Kind(kind, options)
    return lambda folder, port: run_site(
        started.kind, folder, options=started.options, env=started.env, port=port
    )


def asgi(kind: str, *options: str) -> Starts:
    return lambda folder, port: run_asgi_site(kind, folder, options=options, port=port)


ALL = {
    "SIGHUP": sighup,
    "enough requests": enough_requests,
    "SIGKILL": sigkill,
    "SIGTERM": sigterm,
}
NO_MASTER = {"SIGKILL": sigkill, "SIGTERM": sigterm}
DIES = frozenset({"SIGKILL", "SIGTERM"})
GUNICORN = ("--max-requests", ENOUGH, "--graceful-timeout", "120")
# Debian's: at SIGHUP the one from PyPI starts the bare interpreter anew, without its environment.
UWSGI = ("--enable-threads", "--max-requests", ENOUGH, "--worker-reload-mercy", "120")

#: Server, as the reference names it, to its life.
LIVES = {
    "gunicorn sync": Life(wsgi("gunicorn-sync", *GUNICORN), ALL),
    "gunicorn gthread": Life(wsgi("gunicorn-gthread", *TWO_THREADS, *GUNICORN), ALL),
    "gunicorn gevent": Life(wsgi("gunicorn-gevent", *GUNICORN), ALL),
    "gunicorn asgi": Life(asgi("gunicorn-asgi", *GUNICORN), ALL),
    "uWSGI": Life(wsgi("uwsgi-debian", *UWSGI), ALL),
    "waitress": Life(wsgi("waitress"), NO_MASTER, DIES),
    "cheroot": Life(wsgi("cheroot"), NO_MASTER, DIES),
    "gevent.pywsgi": Life(wsgi("gevent-pywsgi"), NO_MASTER, DIES),
    "uvicorn": Life(
        asgi("uvicorn", "--limit-max-requests", ENOUGH),
        {**NO_MASTER, "enough requests": enough_requests},
        DIES | {"enough requests"},
    ),
    "hypercorn": Life(
        asgi("hypercorn", "--max-requests", ENOUGH),
        ALL,
        DIES,
    ),
    "granian": Life(asgi("granian", "--respawn-failed-workers"), {**NO_MASTER, "SIGHUP": sighup}),
}
