"""`flask_eventstream.servers.asgi.home`: the hubs of a server's loop, and what a child leaves."""

from __future__ import annotations

import asyncio
import os
import socket
import stat

from flask_eventstream.servers.asgi import home as asgi_home
from servers.asgi.asgi_client import WITHIN_S


def test_each_loop_has_one_home() -> None:
    """Whoever asks on a loop finds the same home, and what a closed loop had is forgotten."""

    async def twice() -> tuple[object, object]:
        return asgi_home.home_here(), asgi_home.home_here()

    first, again = asyncio.run(twice())
    other, _ = asyncio.run(twice())

    assert first is again
    assert other is not first
    assert first not in asgi_home._HOMES.values()


class Connection:
    """A transport, as far as a child is concerned."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def get_extra_info(self, name: str) -> socket.socket:
        return {"socket": self.sock}[name]


def test_a_child_leaves_the_connections_of_streams() -> None:
    """In a forked child the descriptor of each open stream names something else."""
    ours, theirs = socket.socketpair()
    with ours, theirs, asgi_home.not_for_children(Connection(ours)):
        with asgi_home.not_for_children(Connection(ours)):
            pass  # another stream on the same connection
        asgi_home._leave_streams()
        theirs.settimeout(WITHIN_S)

        assert theirs.recv(1) == b""
        assert not stat.S_ISSOCK(os.fstat(ours.fileno()).st_mode)


def test_a_child_leaves_other_connections_alone() -> None:
    """In a forked child a connection without a stream stays, and so where none can be told."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with asgi_home.not_for_children(Connection(ours)):
            pass
        with asgi_home.not_for_children(None):
            asgi_home._leave_streams()
        ours.send(b"x")

        assert theirs.recv(1) == b"x"
