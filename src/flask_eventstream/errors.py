"""What can go wrong, and why a stream ended. Imports nothing of the package.

::

    EventStreamError
    ├── InvalidEvent (ValueError)      an event that could not be sent as it is
    │   └── EventTooLarge
    ├── InvalidChannel (ValueError)    a channel name that could not be used
    ├── InvalidGrant (ValueError)      a right to read that could not be given
    ├── InvalidConfig (ValueError)     every configuration mistake, reported together
    └── BrokerUnavailable              the log did not confirm in time

Errors hold data; their text is made from it: what happened, with which value, what to do.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence

__all__ = [
    "BrokerUnavailable",
    "EndReason",
    "EventStreamError",
    "EventTooLarge",
    "InvalidChannel",
    "InvalidConfig",
    "InvalidEvent",
    "InvalidGrant",
]

#: How much of a bad value an error shows: enough to recognise it, never a page of it.
_SHOWN_CHARACTERS = 60


class EventStreamError(Exception):
    """The base of every error that this package raises."""


class InvalidEvent(EventStreamError, ValueError):
    """An event has a field that no event stream can carry. Nothing was published."""

    def __init__(self, field: str, value: object, why: str) -> None:
        super().__init__(field, value, why)
        self.field = field
        self.value = value
        self.why = why

    def __str__(self) -> str:
        return f"event {self.field} {_shown(self.value)}: {self.why}"


class EventTooLarge(InvalidEvent):
    """An event's data exceeds ``SSE_MAX_EVENT_BYTES``. Nothing was published."""

    def __init__(self, data: str, *, size_bytes: int, limit_bytes: int) -> None:
        why = (
            f"is {size_bytes} bytes, more than the limit of {limit_bytes}: publish a link to the "
            f"data instead, or raise SSE_MAX_EVENT_BYTES"
        )
        super().__init__("data", data, why)
        self.size_bytes = size_bytes
        self.limit_bytes = limit_bytes


class InvalidChannel(EventStreamError, ValueError):
    """A channel name can not be used."""

    def __init__(self, channel: object, why: str) -> None:
        super().__init__(channel, why)
        self.channel = channel
        self.why = why

    def __str__(self) -> str:
        return f"channel {_shown(self.channel)}: {self.why}"


class InvalidGrant(EventStreamError, ValueError):
    """A field of a `Grant`, or of a link, that can't be one. Nothing was granted."""

    def __init__(self, field: str, value: object, why: str) -> None:
        super().__init__(field, value, why)
        self.field = field
        self.value = value
        self.why = why

    def __str__(self) -> str:
        return f"grant's {self.field} {_shown(self.value)}: {self.why}"


class InvalidConfig(EventStreamError, ValueError):
    """The configuration has mistakes. ``problems`` lists all of them, one text each."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(*problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "Flask-EventStream is not configured correctly: " + "; ".join(self.problems)


class BrokerUnavailable(EventStreamError):
    """The broker did not confirm within its time.

    Streams that are open stay open, and get what is in the log when the broker is back. An event
    that was to be published is not made up for: the error says whether it is lost.

    Attributes:
        in_doubt: True where the event may have been published all the same: with Redis its answer
            may have been lost on the way, or a replica may not have confirmed it. To publish it
            again may double it. False where it was not, and may safely be published again.
        fate: The same in words; empty where nothing was to be published.
    """

    def __init__(
        self,
        broker: str,
        why: str,
        remedy: str = "try again",
        *,
        fate: str = "",
        in_doubt: bool = False,
    ) -> None:
        super().__init__(broker, why, remedy)
        self.broker = broker
        self.why = why
        self.remedy = remedy
        self.fate = fate
        self.in_doubt = in_doubt

    def __str__(self) -> str:
        said = "; ".join(text for text in (self.why, self.fate, self.remedy) if text)
        return f"broker {self.broker} is unavailable: {said}"


class EndReason(enum.Enum):
    """Why a stream ended. The same word stands in the (debug) log, statistics and documentation."""

    LEFT = "left"
    """The client closed its side."""
    LOST = "lost"
    """The connection broke, or the client's host vanished."""
    SLOW = "slow"
    """The client read more slowly than events came; it may come back and resume."""
    CHATTY = "chatty"
    """The client went on sending after its request."""
    AGE = "age"
    """The stream reached its lifetime; the client comes back and resumes."""
    EXPIRED = "expired"
    """The reader's right to read ended; the client comes back and is asked whether it has one."""
    ENDED = "ended"
    """Every channel of the stream was ended by the application."""
    DISCONNECTED = "disconnected"
    """The application disconnected its reader, who may come back, and is asked again."""
    FINISHED = "finished"
    """The iterable behind the response is exhausted."""
    FAILED = "failed"
    """The iterable behind the response raised, or the hub met a defect of its own."""
    REFUSED = "refused"
    """The process holds as many streams as it may; the client comes back later."""
    SHUTDOWN = "shutdown"
    """The process is going down; the client comes back and resumes."""
    NO_HEAD = "no-head"
    """The server wrote no response head that could be relayed."""


def _shown(value: object) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  an error's text must not raise; a long number's repr does
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…"
