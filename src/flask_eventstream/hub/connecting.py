"""A client's connection, or an iterable's pump, given to the hub's loop."""

from __future__ import annotations

import _socket
import asyncio
import socket
from typing import cast

from flask_eventstream.hub.adoption import ServerConnection
from flask_eventstream.hub.feed import Feed

__all__ = ["connect", "connect_feed"]

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
