"""The WSGI servers that are known, one row each: where they have sockets, threads and protocols.

No server promises where its socket is, so this is an allow-list with guards; a descriptor is never
guessed, and what is not understood is not touched. What is looked for are attributes, never
versions.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flask_eventstream.process import is_patched

__all__ = [
    "ADVICE",
    "MOST_WRAPPERS",
    "SERVERS",
    "Client",
    "Environ",
    "NoClient",
    "Server",
    "uwsgi_of",
]

Environ = Mapping[str, Any]

#: Threads of a server that starts one for each request, or has greenlets for them: what gunicorn
#: allows a gevent worker by default (``worker_connections``), and twice that for safe arithmetic.
_NOT_SCARCE = 2000

#: Whose sockets greenlets wait for.
_GREEN = frozenset({"gevent", "eventlet"})

#: How deep servers wrap the file that they read requests from: length, size check, reader.
MOST_WRAPPERS = 4

#: What a log line says where a server shows no sockets, and nothing better is known for it.
ADVICE = (
    "run it with gunicorn, uWSGI, waitress, cheroot or gevent, or set SSE_MAX_STREAMS to fewer"
    " streams than it has threads"
)

#: Sockets of uWSGI on which HTTP arrives, and on which chunks are therefore understood.
_UWSGI_HTTP = frozenset({"http", "http-socket", "http11-socket"})


@dataclass(frozen=True, slots=True)
class Client:
    """The descriptor of the client's connection, as the server has it."""

    fd: int


@dataclass(frozen=True, slots=True)
class NoClient:
    """Why there is no descriptor that could be taken."""

    why: str


@dataclass(frozen=True, slots=True)
class Server:
    """A WSGI server that is known to bear the swap, or at least to say how many threads it has."""

    name: str
    matches: Callable[[Environ], bool]
    connection: Callable[[Environ], Any] = lambda _environ: None
    """The connection's socket, or its descriptor; ``None`` where the server shows none, or a
    `NoClient` where it must not be touched."""
    leave: Callable[[Environ, Any], object] = lambda _environ, _response: None
    """Told to read no further request from this client; given what ``start_response`` belongs to,
    or ``None`` where middleware hides it, as the next two are."""
    threads: Callable[[Environ, Any], int | None] = lambda _environ, _response: None
    """How many requests one process can answer at once; ``None`` where nobody can tell."""
    instead: str = ADVICE
    """What to do where it shows no socket, in words that end a log line."""
    connections: Callable[[Any], int] = lambda _response: 0
    """How many connections of its own, idle ones too, one process may have; 0 where it has few, or
    does not tell."""
    may_chunk: Callable[[Any], bool] = lambda _response: True
    """True where the server was asked in HTTP itself, and not in some gateway's protocol."""


# ---- gunicorn


def _gunicorn_socket(environ: Environ) -> Any:
    # "gunicorn.sock" is what its gevent_pywsgi worker says.
    return environ.get("gunicorn.socket") or environ.get("gunicorn.sock")


def _gunicorn_leave(environ: Environ, response: Any) -> None:
    if hasattr(response, "force_close"):
        response.force_close()
    else:
        _pywsgi_leave(environ, response)  # its gevent_pywsgi worker is gevent's server


def _gunicorn_threads(environ: Environ, response: Any) -> int | None:
    settings = getattr(response, "cfg", None)
    if type(_gunicorn_socket(environ)).__module__.split(".")[0] in _GREEN:
        return int(getattr(settings, "worker_connections", _NOT_SCARCE))
    threads = getattr(settings, "threads", None)
    return None if threads is None else int(threads)


def _gunicorn_connections(response: Any) -> int:
    settings = getattr(response, "cfg", None)
    if settings is None or settings.worker_class_str == "sync":
        return 0
    return int(settings.worker_connections) + int(settings.threads)


def _gunicorn_may_chunk(response: Any) -> bool:
    # `--protocol uwsgi` shows nowhere in environ, but the response knows the configuration.
    settings = getattr(response, "cfg", None)
    if settings is None:
        return hasattr(response, "close_connection")  # gevent's server has no other protocol
    return bool(getattr(settings, "protocol", "http") == "http")  # gunicorn 23 has no other


# ---- gevent.pywsgi and cheroot, which read requests from files


def _input_module(environ: Environ) -> str:
    return type(environ.get("wsgi.input")).__module__


def _socket_behind_input(environ: Environ) -> Any:
    file = environ["wsgi.input"]
    for _ in range(MOST_WRAPPERS):
        raw = getattr(file, "raw", None)
        if raw is not None:
            return raw._sock  # noqa: SLF001  socket.SocketIO has no other way to it
        file = file.rfile
    return None


def _pywsgi_leave(_environ: Environ, handler: Any) -> None:
    if hasattr(handler, "close_connection"):
        handler.close_connection = True


def _cheroot_leave(_environ: Environ, gateway: Any) -> None:
    gateway.req.close_connection = True


def _cheroot_threads(_environ: Environ, gateway: Any) -> int | None:
    pool = getattr(getattr(getattr(gateway, "req", None), "server", None), "requests", None)
    return None if pool is None else int(pool.min)


# ---- waitress


def _waitress_channel(environ: Environ) -> Any:
    # A bound method of the connection's HTTPChannel.
    return environ["waitress.client_disconnected"].__self__


def _waitress_connection(environ: Environ) -> Any:
    channel = _waitress_channel(environ)
    if channel.adj.channel_request_lookahead:
        # Its main thread would read the end of the pair while the response is being made, and
        # drop the response.
        return NoClient("waitress reads ahead: leave channel_request_lookahead at 0, its default")
    if channel.total_outbufs_len:
        # It would go where the head is to come from.
        return NoClient("waitress still writes an earlier answer on this connection")
    return channel.socket


def _waitress_threads(environ: Environ, _response: Any) -> int:
    return len(_waitress_channel(environ).server.task_dispatcher.threads)


# ---- Werkzeug and eventlet


def _werkzeug_connection(environ: Environ) -> Any:
    if environ.get("wsgi.multiprocess"):
        # The child that has the hub would end with its request.
        return NoClient("Werkzeug forks a process for each request: leave `processes` at 1")
    return environ["werkzeug.socket"]


def _eventlet_leave(environ: Environ, _response: Any) -> None:
    # It has read what a client sent ahead, and offers no way to say that nothing shall come of
    # it. Behind that is the end by now.
    environ["eventlet.input"].rfile.read()


# ---- uWSGI


def uwsgi_of(environ: Environ) -> Any:
    """The module that uWSGI puts into its processes; ``None`` under another server."""
    return sys.modules.get("uwsgi") if "uwsgi.version" in environ else None


def _uwsgi_connection(environ: Environ) -> Any:
    uwsgi = uwsgi_of(environ)
    if uwsgi.loop or "async" in uwsgi.opt:
        return NoClient("uWSGI runs a loop of its own: --threads is what is known to work")
    return uwsgi.connection_fd()


def _uwsgi_may_chunk(_response: Any) -> bool:
    # nginx's uwsgi_pass would take the marks of chunks for data. The router of `--http` speaks
    # that protocol too, so the options tell, not the connection.
    options = sys.modules["uwsgi"].opt
    sockets = {name for name in options if name.endswith("socket")} | (_UWSGI_HTTP & options.keys())
    return bool(sockets) and sockets <= _UWSGI_HTTP


SERVERS: tuple[Server, ...] = (
    Server(
        "gunicorn",
        lambda environ: _gunicorn_socket(environ) is not None,
        connection=_gunicorn_socket,
        leave=_gunicorn_leave,
        threads=_gunicorn_threads,
        connections=_gunicorn_connections,
        may_chunk=_gunicorn_may_chunk,
    ),
    Server(
        "Werkzeug",
        lambda environ: "werkzeug.socket" in environ,
        connection=_werkzeug_connection,
        threads=lambda environ, _: _NOT_SCARCE if environ.get("wsgi.multithread") else 1,
    ),
    Server(
        "waitress",
        lambda environ: "waitress.client_disconnected" in environ,
        connection=_waitress_connection,
        threads=_waitress_threads,
    ),
    Server(
        "cheroot",
        lambda environ: _input_module(environ).startswith("cheroot."),
        connection=_socket_behind_input,
        leave=_cheroot_leave,
        threads=_cheroot_threads,
    ),
    Server(
        "gevent.pywsgi",
        lambda environ: _input_module(environ) == "gevent.pywsgi",
        connection=_socket_behind_input,
        leave=_pywsgi_leave,
        threads=lambda *_: _NOT_SCARCE,
    ),
    Server(
        "eventlet",
        lambda environ: "eventlet.input" in environ,
        connection=lambda environ: environ["eventlet.input"].get_socket(),
        leave=_eventlet_leave,
        threads=lambda *_: _NOT_SCARCE if is_patched() else 1,
    ),
    Server(
        "uWSGI",
        lambda environ: uwsgi_of(environ) is not None,
        connection=_uwsgi_connection,
        threads=lambda environ, _: uwsgi_of(environ).cores,
        may_chunk=_uwsgi_may_chunk,
    ),
    Server(
        "mod_wsgi",
        lambda environ: "mod_wsgi.version" in environ,
        threads=lambda *_: sys.modules["mod_wsgi"].threads_per_process,
        instead="run gunicorn or uWSGI behind Apache as a proxy",
    ),
    Server(
        "Granian",
        lambda environ: environ.get("SERVER_SOFTWARE") == "Granian",
        instead="run flask_eventstream.asgi.EventStreamASGI(app) with --interface asgi, or set"
        " SSE_MAX_STREAMS to fewer streams than --blocking-threads",
    ),
)
