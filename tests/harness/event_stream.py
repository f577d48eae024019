"""The event stream format as a browser reads it: WHATWG HTML, section 9.2.6.

Bytes go in, in pieces of any size; what a page's handlers would see comes out. No socket, no clock.
Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

import codecs
import re
from typing import TypedDict

__all__ = ["Dispatched", "EventStreamParser"]

LINE_END = re.compile("\r\n|\r|\n")
ASCII_DIGITS = re.compile("[0-9]+")
BYTE_ORDER_MARK = "\ufeff"


class Dispatched(TypedDict):
    """One event as a page would see it.

    `id` is the last event ID at the time: it persists from event to event. `retry` is the
    reconnection time in force, in milliseconds, None if the stream has not set one: it persists
    too, because the specification gives it to the stream and not to an event.
    """

    type: str
    data: str
    id: str
    retry: int | None


class EventStreamParser:
    """Reads one stream from its first byte. Belongs to the thread that feeds it."""

    __slots__ = (
        "_at_start",
        "_data",
        "_decoder",
        "_id",
        "_skip_line_feed",
        "_text",
        "_type",
        "comments",
        "last_event_id",
        "retry",
    )

    def __init__(self) -> None:
        self.comments = 0
        self.last_event_id = ""
        self.retry: int | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._at_start = True
        self._skip_line_feed = False
        self._text: list[str] = []
        self._data: list[str] = []
        self._type = ""
        self._id = ""

    def feed(self, received: bytes) -> list[Dispatched]:
        """Read the next bytes and give the events that they complete, in order.

        An event that the end of the stream cuts short is never given, as the specification says.
        """
        text = self._decoder.decode(received)
        if not text:
            return []
        if self._at_start:
            self._at_start = False
            text = text.removeprefix(BYTE_ORDER_MARK)
        if self._skip_line_feed:
            # A CR at the end of a piece has ended its line already; the LF of the pair comes now.
            if not text:
                return []
            self._skip_line_feed = False
            text = text.removeprefix("\n")
        self._skip_line_feed = text.endswith("\r")
        *lines, rest = LINE_END.split(text)
        if lines:
            lines[0] = "".join(self._text) + lines[0]
            self._text = []
        if rest:
            self._text.append(rest)
        return [event for line in lines if (event := self._line(line)) is not None]

    def _line(self, line: str) -> Dispatched | None:
        if not line:
            return self._dispatch()
        if line.startswith(":"):
            self.comments += 1
            return None
        name, _, value = line.partition(":")
        self._field(name, value.removeprefix(" "))
        return None

    def _field(self, name: str, value: str) -> None:
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._type = value
        elif name == "id" and "\0" not in value:
            self._id = value
        elif name == "retry" and ASCII_DIGITS.fullmatch(value):
            self.retry = int(value)

    def _dispatch(self) -> Dispatched | None:
        # The id counts from the blank line on, also when the block has no data.
        self.last_event_id = self._id
        lines, self._data = self._data, []
        kind, self._type = self._type, ""
        # The data buffer gets LF after each line: it is empty exactly when there was no data
        # line. One empty data line is therefore an event with empty data.
        if not lines:
            return None
        return Dispatched(
            type=kind or "message",
            data="\n".join(lines),
            id=self.last_event_id,
            retry=self.retry,
        )
