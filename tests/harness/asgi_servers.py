"""How each ASGI server is started. gunicorn is started as for WSGI, with another worker class."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from .ports import HOST, free_port
from .wsgi_servers import Plan

__all__ = ["ASGI_KINDS", "ASGI_SERVERS", "plan_asgi"]


@dataclass(frozen=True, slots=True)
class _Kind:
    """A server's program, and what it says when it can answer."""

    arguments: tuple[str, ...]
    bind: tuple[str, ...]
    ready: str


ASGI_SERVERS = {
    "uvicorn": _Kind(("uvicorn",), ("--host", "{host}", "--port", "{port}"), "Uvicorn running on"),
    "hypercorn": _Kind(
        ("hypercorn", "--access-logfile", "-"), ("--bind", "{host}:{port}"), "Running on"
    ),
    "granian": _Kind(
        ("granian", "--interface", "asgi", "--access-log"),
        ("--host", "{host}", "--port", "{port}"),
        "Started worker",
    ),
}
ASGI_KINDS = (*ASGI_SERVERS, "gunicorn-asgi")


def plan_asgi(kind: str, app: str, *, port: int, options: Sequence[str]) -> Plan:
    """How to start one of `ASGI_SERVERS`."""
    known = ASGI_SERVERS[kind]
    chosen = port or free_port()
    bind = [part.format(host=HOST, port=chosen) for part in known.bind]
    command = [sys.executable, "-m", *known.arguments, *bind, *options, app]
    return Plan(command, port=chosen, ready=known.ready)
