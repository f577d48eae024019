"""Who is told what happens to streams: figures, presence, an application's callbacks.

Rules of this room: an observer is called on the hub's loop, so it counts or posts, and returns. It
never waits, and it runs nothing of an application. Nothing is told per delivery.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

from flask_eventstream.errors import EndReason
from flask_eventstream.hub.admission import Refusal
from flask_eventstream.hub.request import Reader

__all__ = ["Observer", "Unobserved"]


class Observer(Protocol):
    """Told by a hub, on its loop."""

    def opened(self, reader: Reader, channels: Collection[str]) -> None:
        """A stream was adopted."""

    def refused(self, reader: Reader, why: Refusal) -> None:
        """A stream that was adopted is sent away; `closed` follows."""

    def reset(self, channels: Collection[str], streams: int) -> None:
        """So many streams were told that something of these channels is gone."""

    def delivered(self, size_bytes: int, streams: int) -> None:
        """A write of so many bytes was begun to so many streams. Once for all of them."""

    def closed(self, reader: Reader, channels: Collection[str], reason: EndReason) -> None:
        """A stream that was opened is gone. Once for each."""


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
