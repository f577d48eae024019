"""How a client's connection leaves a WSGI server: found, and swapped for a socket pair.

THE SWAP. Our own duplicate of the client's descriptor; then one end of a socket pair put under the
server's descriptor *number*. The server finishes an ordinary response into the pair, reads end of
file, closes, logs 200, frees its thread, and nothing of it reaches the client. No exception is
raised and no private method called. A plain ``dup`` is broken on today's servers: they shut the
*connection* down (gunicorn 26, Werkzeug), or set the shared description blocking again.

No server promises where its socket is, so this is an allow-list with guards; a descriptor is never
guessed, and what is not understood is not touched.
"""

from __future__ import annotations

import _socket
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Client", "NoClient", "find_client", "leave_connection", "may_chunk", "swap"]


@dataclass(frozen=True, slots=True)
class Client:
    """The descriptor of the client's connection, as the server has it."""

    fd: int


@dataclass(frozen=True, slots=True)
class NoClient:
    """Why there is no descriptor that could be taken."""

    why: str


def _gunicorn(environ: Mapping[str, Any]) -> Any:
    # "gunicorn.sock" is what its gevent_pywsgi worker says.
    return environ.get("gunicorn.socket") or environ.get("gunicorn.sock")


def _werkzeug(environ: Mapping[str, Any]) -> Any:
    return environ.get("werkzeug.socket")


_FINDERS: tuple[Callable[[Mapping[str, Any]], Any], ...] = (_gunicorn, _werkzeug)


def find_client(environ: Mapping[str, Any]) -> Client | NoClient:
    """The client's connection, or why it must stay where it is."""
    server = environ.get("SERVER_SOFTWARE") or "this server"
    if os.name != "posix":
        return NoClient("sockets are no descriptors on this system")
    sock = next((found for find in _FINDERS if (found := find(environ)) is not None), None)
    if sock is None:
        return NoClient(f"{server} does not show its sockets to applications")
    if hasattr(sock, "_sslobj") or hasattr(sock, "get_peer_certificate"):
        # OpenSSL writes to the descriptor number: a swap would cut the wrong side.
        return NoClient(f"{server} ends TLS itself: let a proxy such as nginx do that")
    if environ.get("SERVER_PROTOCOL") not in ("HTTP/1.0", "HTTP/1.1"):
        # gunicorn shows the socket of an HTTP/2 connection too, which carries other requests.
        return NoClient(f"{environ.get('SERVER_PROTOCOL')} shares one connection between requests")
    fd = sock.fileno()
    return Client(fd) if fd >= 0 else NoClient("the connection is closed")


def swap(client: Client) -> tuple[_socket.socket, _socket.socket]:
    """Take the client's connection, and leave the server a socket pair under its own number.

    Returns the connection, and our end of the pair, where the server's response will arrive. Both
    are the C class, which nobody patches, and neither is inherited by another program.

    Raises:
        OSError: No descriptor is left (EMFILE). Nothing was changed.
    """
    theirs, sink = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        # The server sees end of file as soon as it reads: no keep-alive, no lingering close.
        sink.shutdown(_socket.SHUT_WR)
        theirs.setblocking(os.get_blocking(client.fd))
        ours = os.dup(client.fd)
    except OSError:
        sink.close()
        theirs.close()
        raise
    os.dup2(theirs.fileno(), client.fd, inheritable=False)
    theirs.close()
    sink.settimeout(0)
    connection = _socket.socket(fileno=ours)
    # O_NONBLOCK belongs to the connection, which the server has no hold of any more.
    connection.settimeout(0)
    return connection, sink


def leave_connection(start_response: Any) -> None:
    """Keep the server from answering a pipelined request: its answer would go nowhere.

    Best effort, by what the bound ``start_response`` belongs to: gunicorn's response has
    ``force_close``.
    """
    force_close = getattr(getattr(start_response, "__self__", None), "force_close", None)
    if force_close is not None:
        force_close()


def may_chunk(environ: Mapping[str, Any], start_response: Any) -> bool:
    """True where the client asked in HTTP/1.1, and asked a server that speaks HTTP.

    gunicorn may speak the protocol of uWSGI instead (``--protocol uwsgi``), where chunks would be
    data. It says so nowhere in ``environ``, but its response knows the configuration.
    """
    response = getattr(start_response, "__self__", None)
    protocol = getattr(getattr(response, "cfg", None), "protocol", "http")
    return environ.get("SERVER_PROTOCOL") == "HTTP/1.1" and protocol == "http"
