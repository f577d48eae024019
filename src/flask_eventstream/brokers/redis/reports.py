"""What the reading side of Redis says in the log: each trouble once, and once that it is over."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterable

from flask_eventstream.brokers.redis.diagnosis import diagnose, is_of_one_channel
from flask_eventstream.brokers.redis.message import Unreadable
from flask_eventstream.errors import BrokerUnavailable

__all__ = ["Reports"]

_LOGGER = logging.getLogger("flask_eventstream")


class Reports:
    """The troubles of one listener: of its connection, of its log, and of single channels.

    Args:
        shown: The server, for people.
    """

    def __init__(self, shown: str) -> None:
        self.shown = shown
        self.unreadable: Counter[str] = Counter()
        """Messages and entries that were skipped, by what was wrong with them."""
        self._away = False
        self._late = False
        self._channels: set[str] = set()

    def away(self, error: Exception) -> None:
        """The session ended: nothing is heard."""
        if not self._away:
            _LOGGER.error(
                "Readers get no events until %s is back: %s; %s", self.shown, *_explain(error)
            )
        self._away = True

    def back(self) -> None:
        """All channels are heard, but those that `unreadable_channel` named."""
        if self._away:
            _LOGGER.warning("%s is back; readers have what they missed", self.shown)
        self._away = False

    def late(self, error: Exception) -> None:
        """The log can't be read, although what is new is heard."""
        if not (self._late or self._away):
            _LOGGER.error(
                "Readers who come back wait for what %s has of the past: %s; %s",
                self.shown,
                *_explain(error),
            )
        self._late = True

    def unread(self, channels: Collection[str], error: Exception) -> None:
        """A page of these channels could not be read."""
        if is_of_one_channel(error) and len(channels) == 1:
            self.damaged(channels, error)
        else:
            self.late(error)

    def damaged(self, channels: Iterable[str], error: Exception) -> None:
        """The log of these channels can't be read; others can."""
        for channel in channels:
            if channel not in self._channels:
                _LOGGER.error(
                    "Readers of %r get no events from %s: %s; %s",
                    channel,
                    self.shown,
                    *_explain(error),
                )
                self._channels.add(channel)

    def read(self, channels: Iterable[str]) -> None:
        """The log of these channels was read."""
        if self._late:
            _LOGGER.warning("%s gives the past again", self.shown)
            self._late = False
        if self._channels:
            for channel in self._channels.intersection(channels):
                _LOGGER.warning("Readers of %r get events from %s again", channel, self.shown)
                self._channels.discard(channel)

    def forget(self, channels: Iterable[str]) -> None:
        """Nobody reads these channels any more."""
        self._channels.difference_update(channels)

    def skipped(self, channel: str, error: Unreadable) -> None:
        """Something that is no event was skipped. Each kind is said once."""
        if not self.unreadable[error.kind]:
            _LOGGER.warning("A message on %r of %s was skipped, %s", channel, self.shown, error)
        self.unreadable[error.kind] += 1


def _explain(error: Exception) -> tuple[str, str]:
    if isinstance(error, BrokerUnavailable):
        return error.why, error.remedy
    return diagnose(error)
