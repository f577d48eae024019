"""The WSGI servers that are known, one row each: where they have sockets, threads and protocols.

No server promises where its socket is, so this is an allow-list with guards; a descriptor is never
guessed, and what is not understood is not touched. What is looked for are attributes, never
versions. A request's server is looked up once (`identify`), and then asked.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flask_eventstream.process import is_patched

__all__ = ["SERVERS", "Client", "Identified", "NoClient", "Server", "identify"]

Environ = Mapping[str, Any]

#: Threads of a server that starts one for each request, or has greenlets for them: what gunicorn
#: allows a gevent worker by default (``worker_connections``), and twice that for safe arithmetic.
_NOT_SCARCE = 2000

#: Whose sockets greenlets wait for.
_GREEN = frozenset({"gevent", "eventlet"})

#: How deep servers wrap the file that they read requests from: length, size check, reader.
_MOST_WRAPPERS = 4

#: What a log line says where a server shows no sockets, and nothing better is known for it.
_ADVICE = (
    "run it with gunicorn, uWSGI, waitress, cheroot or gevent, or set SSE_MAX_STREAMS to fewer"
    " streams than it has threads"
)

#: Where ``start_response`` comes from in ASGI's bridges to WSGI. None of them tells an application
#: that its reader left: a thread that holds a stream would hold it for nobody.
_BRIDGES = ("a2wsgi", "asgiref", "hypercorn", "starlette", "uvicorn")

#: What servers that always show their sockets call themselves, and the sockets: where the name is
#: there and the key is not, it was lost on the way.
_SHOWN_AS = {"gunicorn/": "gunicorn.socket", "Werkzeug/": "werkzeug.socket"}

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
    instead: str = _ADVICE
    """What to do where it shows no socket, in words that end a log line."""
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
    for _ in range(_MOST_WRAPPERS):
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


def _uwsgi(environ: Environ) -> Any:
    return sys.modules.get("uwsgi") if "uwsgi.version" in environ else None


def _uwsgi_connection(environ: Environ) -> Any:
    uwsgi = _uwsgi(environ)
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
        lambda environ: _uwsgi(environ) is not None,
        connection=_uwsgi_connection,
        threads=lambda environ, _: _uwsgi(environ).cores,
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


@dataclass(frozen=True, slots=True)
class Identified:
    """The server of one request, as far as it is known, and what can be asked of it."""

    environ: dict[str, Any]
    start_response: Any
    server: Server | None
    owner: Any
    """What the server's ``start_response`` belongs to; ``None`` where middleware hides it."""

    @property
    def name(self) -> str:
        """What the server calls itself, in words that can begin a sentence's second half."""
        return self.environ.get("SERVER_SOFTWARE") or "this server"

    def client(self) -> Client | NoClient:
        """The client's connection, or why it must stay where it is."""
        if os.name != "posix":
            return NoClient("sockets are no descriptors on this system")
        try:
            found = self.server.connection(self.environ) if self.server is not None else None
        except Exception as error:  # noqa: BLE001  whatever changed in there, ordinary requests go on
            found = NoClient(f"{self.name} keeps its sockets elsewhere than known here ({error!r})")
        if found is None:
            return NoClient(self._why_hidden())
        if hasattr(found, "_sslobj") or hasattr(found, "get_peer_certificate"):
            # OpenSSL writes to the descriptor number: a swap would cut the wrong side.
            return NoClient(f"{self.name} ends TLS itself: let a proxy such as nginx do that")
        protocol = self.environ.get("SERVER_PROTOCOL")
        if protocol not in ("HTTP/1.0", "HTTP/1.1"):
            # gunicorn shows the socket of an HTTP/2 connection too, which carries other requests.
            return NoClient(
                f"{protocol} shares one connection between requests: "
                "let a proxy such as nginx speak it, or run the ASGI application"
            )
        return found if isinstance(found, NoClient) else self._checked(found)

    def _why_hidden(self) -> str:
        for software, key in _SHOWN_AS.items():
            if self.name.startswith(software):
                return f"middleware keeps back what {self.name} shows in environ as {key!r}"
        instead = self.server.instead if self.server is not None else _ADVICE
        return f"{self.name} does not show its sockets to applications: {instead}"

    def _checked(self, found: Any) -> Client | NoClient:
        try:
            fd = found if isinstance(found, int) else found.fileno()
            if fd < 0:
                return NoClient("the connection is closed")
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                return Client(fd)
        except (AttributeError, OSError):
            pass
        return NoClient(f"{self.name} shows something else than a socket")

    def why_no_stream(self) -> str | None:
        """Why no stream can be opened in this process, in any way; ``None`` where it can."""
        bridge = self._bridge()
        if bridge is not None:
            return (
                f"{bridge} never says that a reader left: give the ASGI server"
                " flask_eventstream.asgi.EventStreamASGI(app) instead"
            )
        uwsgi = _uwsgi(self.environ)
        if uwsgi is None or getattr(uwsgi, "has_threads", False):
            return None
        # Between requests it would stand still, with all streams: uWSGI waits with the GIL in hand.
        return "uWSGI lets no thread of Python run: start it with --enable-threads"

    def _bridge(self) -> str | None:
        asked = self.start_response if self.owner is None else self.owner
        package = str(getattr(asked, "__module__", "")).partition(".")[0]
        if package in _BRIDGES:
            return package
        return "the bridge from ASGI" if "asgi.scope" in self.environ else None

    def count_threads(self) -> int | None:
        """How many requests this process can answer at once; ``None`` where nobody can tell."""
        threads = None
        if self.server is not None:
            # What can't be counted is unknown.
            with contextlib.suppress(Exception):
                threads = self.server.threads(self.environ, self.owner)
        if threads is None and not self.environ.get("wsgi.multithread"):
            return 1
        return threads

    def leave_connection(self) -> None:
        """Keep the server from answering a pipelined request: its answer would go nowhere.

        Best effort, by what the bound ``start_response`` belongs to.
        """
        if self.server is not None:
            with contextlib.suppress(Exception):
                self.server.leave(self.environ, self.owner)

    def may_chunk(self) -> bool:
        """True where the client asked in HTTP/1.1, and asked a server that speaks HTTP."""
        if self.server is None or self.environ.get("SERVER_PROTOCOL") != "HTTP/1.1":
            return False
        try:
            return self.server.may_chunk(self.owner)
        except Exception:  # noqa: BLE001  every client understands a stream without chunks
            return False


def identify(environ: dict[str, Any], start_response: Any) -> Identified:
    """Look the server of a request up. Never raises."""
    server = next((server for server in SERVERS if server.matches(environ)), None)
    return Identified(environ, start_response, server, _owner(start_response))


def _owner(start_response: Any, depth: int = _MOST_WRAPPERS) -> Any:
    """What the server's ``start_response`` belongs to, be it behind functions of middleware."""
    owner = getattr(start_response, "__self__", None)
    if owner is not None or depth == 0:
        return owner
    inner = list(getattr(start_response, "args", ()))  # functools.partial
    with contextlib.suppress(ValueError):  # a cell may be empty
        inner += [cell.cell_contents for cell in getattr(start_response, "__closure__", None) or ()]
    owners = (_owner(each, depth - 1) for each in inner if callable(each))
    return next((owner for owner in owners if owner is not None), None)
