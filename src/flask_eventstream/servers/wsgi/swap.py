"""The swap: how a client's connection leaves a WSGI server.

Our own duplicate of the client's descriptor; then one end of a socket pair put under the server's
descriptor *number*. The server finishes an ordinary response into the pair, reads end of file,
closes, logs 200, frees its thread, and nothing of it reaches the client. No exception is raised and
no private method called. A plain ``dup`` is broken on today's servers: they shut the *connection*
down (gunicorn 26, Werkzeug), or set the shared description blocking again.
"""

from __future__ import annotations

import _socket
import os

from flask_eventstream.servers.wsgi.known import Client

__all__ = ["swap", "swap_back"]


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


def swap_back(client: Client, connection: _socket.socket) -> None:
    """Give the server its connection back, as it was, and close ours."""
    blocking = os.get_blocking(client.fd)
    os.dup2(connection.fileno(), client.fd, inheritable=False)
    os.set_blocking(client.fd, blocking)
    connection.close()
