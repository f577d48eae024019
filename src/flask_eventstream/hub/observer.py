"""Who is told what happens to streams: figures, presence, an application's callbacks.

Rules of this room: an observer is called on the hub's loop, so it counts or posts, and returns. It
never waits, and it runs nothing of an application. Nothing is told per delivery.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

from flask_eventstream.errors import EndReason
from flask_eventstream.hub.admission import Refusal
from flask_eventstream.hub.request import Reader

__all__ = ["Observer", "Observers", "Unobserved"]


class Observer(Protocol):
    """Told by a hub, on its loop."""

    def opened(self, reader: Reader, channels: Collection[str]) -> None:
        """A stream was adopted, and may stay."""

    def refused(self, reader: Reader, why: Refusal) -> None:
        """A stream that was adopted is sent away: never `opened`, but `closed` follows."""

    def reset(self, channels: Collection[str], streams: int) -> None:
        """So many streams were told that something of these channels is gone."""

    def delivered(self, size_bytes: int, streams: int) -> None:
        """A write of so many bytes was begun to so many streams. Once for all of them."""

    def closed(self, reader: Reader, channels: Collection[str], reason: EndReason) -> None:
        """A stream that was adopted is gone. Once for each."""


class Unobserved:
    """Nobody is told."""

    def opened(self, reader: Reader, channels: Collection[str]) -> None:
        """Nobody asks."""

    def refused(self, reader: Reader, why: Refusal) -> None:
        """Nobody asks."""

    def reset(self, channels: Collection[str], streams: int) -> None:
        """Nobody asks."""

    def delivered(self, size_bytes: int, streams: int) -> None:
        """Nobody asks."""

    def closed(self, reader: Reader, channels: Collection[str], reason: EndReason) -> None:
        """Nobody asks."""


class Observers:
    """Several observers; each is told of what it asks for, in their order."""

    def __init__(self, *observers: Observer) -> None:
        def told(what: str) -> list[Any]:
            nothing = getattr(Unobserved, what)
            return [getattr(o, what) for o in observers if getattr(type(o), what) is not nothing]

        self._opened = told("opened")
        self._refused = told("refused")
        self._reset = told("reset")
        self._delivered = told("delivered")
        self._closed = told("closed")

    def opened(self, reader: Reader, channels: Collection[str]) -> None:
        """Tell them."""
        for tell in self._opened:
            tell(reader, channels)

    def refused(self, reader: Reader, why: Refusal) -> None:
        """Tell them."""
        for tell in self._refused:
            tell(reader, why)

    def reset(self, channels: Collection[str], streams: int) -> None:
        """Tell them."""
        for tell in self._reset:
            tell(channels, streams)

    def delivered(self, size_bytes: int, streams: int) -> None:
        """Tell them."""
        for tell in self._delivered:
            tell(size_bytes, streams)

    def closed(self, reader: Reader, channels: Collection[str], reason: EndReason) -> None:
        """Tell them."""
        for tell in self._closed:
            tell(reader, channels, reason)
