"""Ports of this machine's own address, for servers under test and what stands before them."""

from __future__ import annotations

import socket

__all__ = ["HOST", "accepts", "free_port"]

HOST = "127.0.0.1"

#: One socket for each port that was given away; see `free_port`.
_kept: list[socket.socket] = []


def free_port() -> int:
    """A port for a server that can't take any free one, or that shall come back to its port.

    Nobody else is given it while this process lives: a socket stays bound to it. That one does not
    listen and allows reuse, so a server that allows reuse, as all do, may bind to the port, but
    the kernel chooses it for nobody who asks for any port.
    """
    sock = socket.socket()
    _kept.append(sock)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((HOST, 0))
    return int(sock.getsockname()[1])


def accepts(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
