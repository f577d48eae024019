"""A client's connection, or an iterable's pump, given to the hub's loop."""

from __future__ import annotations

import _socket
import asyncio
import contextlib
import os
import socket
from typing import cast

from flask_eventstream.hub.adoption import ServerConnection
from flask_eventstream.hub.feed import Feed

__all__ = ["connect", "connect_feed", "give_up", "identity_of"]

#: Seconds after which a loop has closed what it was given, if it ever will.
_SETTLED_S = 1.0

# What both of them see to: uvloop closes the descriptor of a socket whose transport is closed, and
# then a socket of the C class once more, by its number. By then that may be another thread's.


async def connect(
    loop: asyncio.AbstractEventLoop,
    protocol: asyncio.Protocol,
    sock: _socket.socket | ServerConnection,
) -> None:
    """Make a transport for a connection, and give it to the protocol."""
    if not isinstance(sock, _socket.socket):
        sock.connect(protocol)
        return
    # The loops take the C class as well as its subclass.
    accepted = cast("socket.socket", sock)
    await loop.connect_accepted_socket(lambda: protocol, accepted)
    if not isinstance(loop, asyncio.BaseEventLoop):
        sock.detach()  # uvloop needs it for nothing any more


async def connect_feed(loop: asyncio.AbstractEventLoop, feed: Feed, sock: _socket.socket) -> None:
    """The same for a feed, which may be stopped, or its stream's opening cancelled, meanwhile."""

    async def connect_whole() -> None:
        await connect(loop, feed, sock)
        if feed.stopped:
            feed.stop()  # not before: it would be closed twice, too

    # Shielded: a connecting that is cancelled closes it twice.
    await asyncio.shield(connect_whole())


def identity_of(sock: _socket.socket | ServerConnection) -> tuple[int, int] | None:
    """What tells this open descriptor from any that gets its number later."""
    return _identity(sock.fileno()) if isinstance(sock, _socket.socket) else None


def give_up(
    loop: asyncio.AbstractEventLoop,
    sock: _socket.socket | ServerConnection,
    identity: tuple[int, int] | None,
) -> None:
    """End a connection of which the loop made no transport.

    Whether the loop has closed its descriptor, or will, it does not say, and a number that is
    closed twice could be another thread's by then. So the connection is ended, which hurts nobody,
    and the descriptor is closed when the loop has had its time, if it is still the same.
    """
    if not isinstance(sock, _socket.socket):
        sock.detach()  # the server ends it
        return
    fd = sock.fileno()
    if identity is not None and _identity(fd) == identity:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        loop.call_later(_SETTLED_S, _close_if, fd, identity)
    sock.detach()


def _close_if(fd: int, identity: tuple[int, int]) -> None:
    if _identity(fd) == identity:
        with contextlib.suppress(OSError):
            _socket.close(fd)


def _identity(fd: int) -> tuple[int, int] | None:
    try:
        status = os.fstat(fd)
    except OSError:
        return None
    return status.st_dev, status.st_ino
