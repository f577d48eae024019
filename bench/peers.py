"""Who takes part: how each server is started from its package, and what it cannot do."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from bench.machine import SERVER_CORE, pinned
from bench.packages import NODE, PEER_PYTHON, nchan_module, nginx, node
from bench.programs import CannotRun, Program, answers, compiled, running
from bench.site import NchanSite, OurSite, Site
from harness.ports import free_port
from harness.redis_server import RedisServer, run_redis

__all__ = ["PEERS", "Peer", "start_ours"]

#: More than any case opens.
CONNECTIONS = 40_000
HEARTBEAT_S = 15
Start = Callable[[], AbstractContextManager[Site]]

NGINX = """\
load_module {module};
daemon off;
worker_processes 1;
worker_rlimit_nofile {connections};
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections {connections}; }}
http {{
    access_log off;
    client_body_temp_path {folder};
    proxy_temp_path {folder};
    fastcgi_temp_path {folder};
    uwsgi_temp_path {folder};
    scgi_temp_path {folder};
    keepalive_requests 1000000;
    nchan_shared_memory_size 1G;
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location = /ping {{ return 200; }}
        location = /stream {{
            nchan_subscriber eventsource;
            nchan_channel_id $arg_channel;
            nchan_subscriber_first_message newest;
            nchan_eventsource_ping_interval {heartbeat_s};
        }}
        location = /publish {{
            nchan_publisher;
            nchan_channel_id $arg_channel;
            nchan_message_buffer_length 1000;
            nchan_message_timeout 1h;
        }}
    }}
}}
"""


@dataclass(frozen=True)
class Peer:
    """One row of a table."""

    name: str
    title: str
    start: Start
    cannot: Mapping[str, str] = field(default_factory=dict)
    """Cases that it cannot do, and why."""


@contextmanager
def start_ours(
    broker: str, *, server: str = "sync", workers: int = 1, heartbeat_s: int = HEARTBEAT_S
) -> Iterator[Site]:
    """Run the application on Flask-EventStream.

    Args:
        broker: "memory", "sqlite" or "redis"; Redis is started beside it.
        server: "uvicorn", or a worker class of gunicorn.
        workers: Processes.
        heartbeat_s: As SSE_HEARTBEAT_S.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-"))
        redis_server = stack.enter_context(_redis()) if broker == "redis" else None
        brokers = [redis_server.pid] if redis_server else []
        urls = {"memory": "memory://", "sqlite": f"sqlite:///{folder}/events.db"}
        url = redis_server.url if redis_server else urls[broker]
        env = {"FLASK_SSE_BROKER_URL": url, "FLASK_SSE_HEARTBEAT_S": str(heartbeat_s)}
        if redis_server:
            env["BARE_REDIS_URL"] = redis_server.url
        command = _uvicorn(sys.executable, "ours:asgi")
        if server != "uvicorn":
            command = _gunicorn(sys.executable, "ours:app", folder)
            command += ["--worker-class", server, "--workers", str(workers)]
            command += ["--threads", "4"] if server == "gthread" else []
        with _serving(command, env) as (program, port):
            site = OurSite(port, lambda: program.pids + brokers, broker_pids=brokers)
            site.notes["broker"] = url
            yield site


@contextmanager
def _redis() -> Iterator[RedisServer]:
    options = ("--maxclients", str(CONNECTIONS))
    with ExitStack() as stack:
        with pinned(SERVER_CORE):
            server = stack.enter_context(run_redis(*options))
        yield server


def _gunicorn(python: str | Path, app: str, folder: str) -> list[str]:
    # The control socket of all gunicorns would be the same one in the home directory.
    settings = Path(folder) / "gunicorn.conf.py"
    settings.write_text(f'control_socket = "{folder}/gunicorn.ctl"\n', encoding="utf-8")
    more = ["--backlog", "4096", "--worker-connections", str(CONNECTIONS), "--log-level", "warning"]
    bind = ["--bind", "127.0.0.1:{port}", "--graceful-timeout", "2"]
    return [str(python), "-m", "gunicorn", "--config", str(settings), *bind, *more, app]


def _uvicorn(python: str | Path, app: str) -> list[str]:
    more = ["--backlog", "4096", "--no-access-log", "--log-level", "warning"]
    return [str(python), "-m", "uvicorn", "--host", "127.0.0.1", "--port", "{port}", *more, app]


@contextmanager
def _serving(
    command: Sequence[str], env: Mapping[str, str] | None = None
) -> Iterator[tuple[Program, int]]:
    """Run a server on a free port, which stands in the command as ``{port}``."""
    port = free_port()
    with running(
        [part.replace("{port}", str(port)) for part in command],
        ready=lambda _: answers(port),
        env=env,
    ) as program:
        yield program, port


@contextmanager
def start_flask_sse(*, workers: int = 1) -> Iterator[Site]:
    """Run flask-sse on gunicorn's gevent worker, with Redis."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, _redis() as redis_server:
        command = _gunicorn(PEER_PYTHON, "flask_sse_app:app", folder)
        command += ["--worker-class", "gevent", "--workers", str(workers)]
        with _serving(command, {"REDIS_URL": redis_server.url}) as (program, port):
            yield Site(
                port,
                lambda: [*program.pids, redis_server.pid],
                broker_pids=[redis_server.pid],
                needs_head=False,
                # Each stream is a connection, and this question another one.
                subscribed=lambda: int(redis_server.info("clients")["connected_clients"]) - 1,
            )


@contextmanager
def start_starlette() -> Iterator[Site]:
    """Run sse-starlette on uvicorn."""
    with _serving(_uvicorn(PEER_PYTHON, "starlette_app:app")) as (program, port):
        yield Site(port, lambda: program.pids)


@contextmanager
def start_django(*, with_storage: bool) -> Iterator[Site]:
    """Run django-eventstream on uvicorn."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        env = {"DB_FILE": f"{folder}/django.db", "WITH_STORAGE": "1" if with_storage else ""}
        with _serving(_uvicorn(PEER_PYTHON, "django_app:app"), env) as (program, port):
            yield Site(port, lambda: program.pids)


@contextmanager
def start_better_sse() -> Iterator[Site]:
    """Run better-sse on Node."""
    command = [node(), "better_sse.mjs", "{port}", str(NODE)]
    with _serving(command) as (program, port):
        yield Site(port, lambda: program.pids)


@contextmanager
def start_nchan() -> Iterator[Site]:
    """Run nginx with the module nchan."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101, S103  nginx' worker may be another user
        settings = Path(folder) / "nginx.conf"
        text = NGINX.format(
            module=nchan_module(),
            connections=CONNECTIONS,
            folder=folder,
            port=port,
            heartbeat_s=HEARTBEAT_S,
        )
        settings.write_text(text, encoding="utf-8")
        command = [nginx(), "-p", folder, "-c", str(settings)]
        with running(command, ready=lambda _: answers(port)) as program:
            yield NchanSite(port, lambda: program.pids)


@contextmanager
def start_floor(fault: str = "") -> Iterator[Site]:
    """Run the floor: one send() per stream, in C."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        program = compiled("floor", Path(folder))
        command = [str(program), *([fault] if fault else [])]
        with running(command, ready=lambda started: "\n" in started.log()) as started:
            yield Site(int(started.log().rpartition(":")[2]), lambda: started.pids)


NO_LOG = "has no log: a reader who was away gets nothing of it"
_DJANGO_RESUME = "without a storage class it has no log; see the row with storage"

_LIST = [
    Peer("floor", "C, one `send()` per stream (floor)", start_floor, {"resume": NO_LOG}),
    Peer("ours-memory", "Flask-EventStream, memory", partial(start_ours, "memory")),
    Peer("ours-sqlite", "Flask-EventStream, SQLite", partial(start_ours, "sqlite")),
    Peer("ours-redis", "Flask-EventStream, Redis", partial(start_ours, "redis")),
    Peer(
        "ours-uvicorn",
        "Flask-EventStream, SQLite, uvicorn",
        partial(start_ours, "sqlite", server="uvicorn"),
    ),
    Peer("nchan", "nchan (nginx)", start_nchan),
    Peer(
        "better-sse",
        "better-sse (Node)",
        start_better_sse,
        {"resume": "has no log: its history is the application's own to keep"},
    ),
    Peer("sse-starlette", "sse-starlette (uvicorn)", start_starlette, {"resume": NO_LOG}),
    Peer(
        "django",
        "django-eventstream (uvicorn)",
        partial(start_django, with_storage=False),
        {"resume": _DJANGO_RESUME},
    ),
    Peer(
        "django-storage",
        "django-eventstream (uvicorn), storage",
        partial(start_django, with_storage=True),
    ),
    Peer("flask-sse", "flask-sse (gunicorn, gevent)", start_flask_sse, {"resume": NO_LOG}),
    # A stream takes two descriptors of its worker, and limits of 20,000 are usual.
    Peer(
        "flask-sse-2",
        "flask-sse (gunicorn, two gevent workers)",
        partial(start_flask_sse, workers=2),
    ),
    # For the cases about requests beside streams, which a sync worker answers one at a time.
    Peer(
        "ours-gthread",
        "Flask-EventStream, SQLite, gthread",
        partial(start_ours, "sqlite", server="gthread"),
    ),
    Peer(
        "ours-gthread-redis",
        "Flask-EventStream, Redis, gthread",
        partial(start_ours, "redis", server="gthread"),
    ),
]
PEERS = {peer.name: peer for peer in _LIST}


def check(names: Sequence[str]) -> None:
    """Raise for a name that is none.

    Raises:
        CannotRun: Names it and those that there are.
    """
    unknown = sorted(set(names) - set(PEERS))
    if unknown:
        raise CannotRun(f"no peer is called {', '.join(unknown)}; there are {', '.join(PEERS)}")
