"""Which node of a cluster has which channel. A value, made of what a node answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from redis.crc import key_slot

from flask_eventstream.errors import InvalidChannel

__all__ = ["Slots", "check_cluster_channel"]


@dataclass(frozen=True, slots=True)
class Slots:
    """The primaries of a cluster, and their slots, at one moment."""

    ranges: tuple[tuple[int, int, tuple[str, int]], ...]
    """(first slot, last slot, address of the primary)."""

    @classmethod
    def parse(cls, answer: Sequence[Sequence[Any]], asked: str) -> Slots:
        """Read the answer to ``CLUSTER SLOTS`` of the node at the host ``asked``."""
        ranges = []
        for first, last, (host, port, *_), *_ in answer:
            # A node that does not know its own name leaves it empty.
            ranges.append((int(first), int(last), ((host or b"").decode() or asked, int(port))))
        return cls(tuple(sorted(ranges)))

    def home_of(self, channel: str) -> tuple[str, int] | None:
        """The address of the primary that has a channel; ``None`` where no node has."""
        slot = key_slot(channel.encode())
        for first, last, address in self.ranges:
            if first <= slot <= last:
                return address
        return None

    @property
    def addresses(self) -> Iterable[tuple[str, int]]:
        """The primaries."""
        return {address for _, _, address in self.ranges}


def check_cluster_channel(channel: str) -> str:
    """Return ``channel`` if its keys and its name can lie in one slot.

    Raises:
        InvalidChannel: It has braces, with which Redis picks the part of a name that counts.
    """
    if "{" in channel or "}" in channel:
        raise InvalidChannel(channel, "has braces, which mean something to Redis Cluster")
    return channel
