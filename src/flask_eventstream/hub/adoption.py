"""The message that gives a stream to a hub: what the reader asked for, and its connection.

A socket and values, no callable: another process could be sent it.
"""

from __future__ import annotations

import _socket
import asyncio
from dataclasses import dataclass, field
from typing import Protocol

from flask_eventstream.hub.request import StreamRequest

__all__ = ["Adoption", "ServerConnection"]


class ServerConnection(Protocol):
    """A connection that stays with its server, which writes to it for us. No descriptor is ours."""

    def connect(self, protocol: asyncio.Protocol) -> None:
        """Be the protocol's transport from now on. On the hub's loop."""

    def fileno(self) -> int:
        """-1, as a socket says that has none."""

    def detach(self) -> object:
        """No stream takes it: let the server end the response in order."""


@dataclass(frozen=True, slots=True)
class Adoption:
    """A stream for a hub. Whoever sends it owns nothing of it any more."""

    client: _socket.socket | ServerConnection
    """The client's connection, or our end of a pair whose other end a worker thread reads."""
    request: StreamRequest = field(default_factory=StreamRequest)
    head_pair: _socket.socket | None = None
    """Where the server writes its response head; ``None`` where the server sends the head."""
    may_chunk: bool = False
    """True where the client, and what lies between, understands chunks."""
    feed: _socket.socket | None = None
    """What arrives here is the stream, instead of channels (see feed.py)."""
