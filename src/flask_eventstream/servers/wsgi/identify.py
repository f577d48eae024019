"""The server of one request, looked up once, and what it can be asked: with guards, for all rows.

What is not understood is not touched, and nothing that a server changed in a new version may keep
ordinary requests from being answered.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from typing import Any

from flask_eventstream.servers.wsgi.known import (
    ADVICE,
    MOST_WRAPPERS,
    SERVERS,
    Client,
    NoClient,
    Server,
    uwsgi_of,
)

__all__ = ["Identified", "identify"]

#: Where ``start_response`` comes from in ASGI's bridges to WSGI. None of them tells an application
#: that its reader left: a thread that holds a stream would hold it for nobody.
_BRIDGES = ("a2wsgi", "asgiref", "hypercorn", "starlette", "uvicorn")

#: What servers that always show their sockets call themselves, and the sockets: where the name is
#: there and the key is not, it was lost on the way.
_SHOWN_AS = {"gunicorn/": "gunicorn.socket", "Werkzeug/": "werkzeug.socket"}


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
        instead = self.server.instead if self.server is not None else ADVICE
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
        uwsgi = uwsgi_of(self.environ)
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

    def count_connections(self) -> int:
        """How many connections beside streams this process may have, as far as it is known."""
        with contextlib.suppress(Exception):
            return self.server.connections(self.owner) if self.server is not None else 0
        return 0

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


def _owner(start_response: Any, depth: int = MOST_WRAPPERS) -> Any:
    """What the server's ``start_response`` belongs to, be it behind functions of middleware."""
    owner = getattr(start_response, "__self__", None)
    if owner is not None or depth == 0:
        return owner
    inner = list(getattr(start_response, "args", ()))  # functools.partial
    with contextlib.suppress(ValueError):  # a cell may be empty
        inner += [cell.cell_contents for cell in getattr(start_response, "__closure__", None) or ()]
    owners = (_owner(each, depth - 1) for each in inner if callable(each))
    return next((owner for owner in owners if owner is not None), None)
