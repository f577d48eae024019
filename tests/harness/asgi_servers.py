"""ASGI servers with an app in them. What `servers` says of process trees and logs holds here."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .servers import HOST, READY_WITHIN_S, Server, _environment
from .wsgi_servers import free_port

__all__ = ["ASGI_KINDS", "serve_asgi"]


@dataclass(frozen=True, slots=True)
class _Kind:
    """How one server is started, and what it says when it can answer."""

    arguments: tuple[str, ...]
    bind: tuple[str, ...]
    ready: str


_KINDS = {
    "uvicorn": _Kind(("uvicorn",), ("--host", "{host}", "--port", "{port}"), "Uvicorn running on"),
    "hypercorn": _Kind(
        ("hypercorn", "--access-logfile", "-"), ("--bind", "{host}:{port}"), "Running on"
    ),
    "granian": _Kind(
        ("granian", "--interface", "asgi", "--access-log"),
        ("--host", "{host}", "--port", "{port}"),
        "Started worker",
    ),
    "gunicorn-asgi": _Kind(
        ("gunicorn", "--worker-class", "asgi", "--access-logfile", "-", "--error-logfile", "-"),
        ("--bind", "{host}:{port}"),
        "ASGI server listening on",
    ),
}
ASGI_KINDS = tuple(_KINDS)

#: See GUNICORN_SETTINGS in `servers`.
_GUNICORN_SETTINGS = 'control_socket = "{scratch}/gunicorn.ctl"\n'


@contextmanager
def serve_asgi(
    kind: str,
    app: str,
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
    port: int = 0,
) -> Iterator[Server]:
    """Run one of `ASGI_KINDS` for the length of a `with` block, as `servers.serve` does.

    Args:
        kind: one of `ASGI_KINDS`.
        app: "module:attribute", importable from `cwd`.
        cwd: the directory in which the server runs.
        env: variables on top of this process's own.
        options: further command line arguments.
        port: 0 for any free one; a number to come back where an earlier server was.

    Raises:
        AssertionError: it did not get ready; the text has the server's log.
    """
    port = port or free_port()
    with (
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryDirectory(prefix="server-") as scratch,
    ):
        process = subprocess.Popen(
            _command(kind, app, port=port, options=options, scratch=Path(scratch)),
            cwd=cwd,
            env=_environment({"PYTHONPATH": str(cwd), **(env or {})}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        server = Server(
            kind,
            process=process,
            output=output,
            app_loaded=lambda: _KINDS[kind].ready in server.log(),
            port=port,
        )
        try:
            server._await_ready(READY_WITHIN_S)
            yield server
            server.stop()
        finally:
            server.kill()


def _command(kind: str, app: str, *, port: int, options: Sequence[str], scratch: Path) -> list[str]:
    known = _KINDS[kind]
    more: list[str] = []
    if kind == "gunicorn-asgi":
        settings = scratch / "gunicorn.conf.py"
        settings.write_text(_GUNICORN_SETTINGS.format(scratch=scratch), encoding="utf-8")
        more = ["--config", str(settings)]
    bind = [part.format(host=HOST, port=port) for part in known.bind]
    return [sys.executable, "-m", *known.arguments, *bind, *more, *options, app]
