"""One event: validated where it is made, encoded as WHATWG HTML 9.2 reads it.

Rules of this room: no clock, no socket, no loop, no Flask. An `Event` that exists can be sent;
whatever could break the framing (a line break in the type, a NUL in the id) was refused here.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from flask_eventstream.errors import InvalidEvent

__all__ = [
    "COMMENT",
    "RESET",
    "STREAM_END",
    "Event",
    "encode_channels_event",
    "encode_id",
    "encode_padding",
    "encode_retry",
    "use_json_dumps",
]

#: Types that the stream itself speaks with; an application's event must not be taken for one.
RESET = "stream-reset"
STREAM_END = "stream-end"

#: A heartbeat, and the first byte of a stream: a comment line and **no** blank line after it.
#: Several parsers emit an empty event at each blank line once they saw an id (httpx-sse#35,
#: openai-python#2722).
COMMENT = b":\n"

#: A reader sends its last event ID back as a request header, and servers bound header lines at
#: about 8 KiB (gunicorn: 8190). A tenth of that leaves room for the rest of the request.
_MAX_ID_BYTES = 800

_FIRST_PRINTABLE = 32

#: 2 KiB of comment made Internet Explorer's and old Android's XMLHttpRequest hand out what
#: arrived; polyfills ask for it in the query (Yaffle/EventSource, README). 8 KiB is plenty.
_MAX_PADDING_BYTES = 8192

_json_dumps: Callable[[Any], str] = json.dumps


def use_json_dumps(dumps: Callable[[Any], str]) -> None:
    """Make ``dumps`` turn data that is not text into text, from now on, for every event.

    The Flask side puts Flask's own ``dumps`` here, which asks the current app's JSON provider.
    """
    global _json_dumps  # noqa: PLW0603  one value per process, set once when Flask is imported
    _json_dumps = dumps


@dataclass(frozen=True, slots=True)
class Event:
    """An event as an application publishes it.

    Args:
        data: Text, sent as it is; anything else becomes JSON text (``data`` is text afterwards).
        type: What ``addEventListener`` listens for; ``None`` or empty is ``message``.
        id: The application's own id, sent as it is and a point to resume from; ``None`` or empty
            lets the broker's position be the id.
        retry: Milliseconds that the client waits before it reconnects, from now on.

    Raises:
        InvalidEvent: A field that the event stream can't carry; names the field and the remedy.
    """

    data: Any
    type: str | None = None
    id: str | None = None
    retry: int | None = None
    is_json: bool = field(default=False, init=False, compare=False, repr=False)
    """True where ``data`` was not text and was made JSON text here."""

    def __post_init__(self) -> None:
        if not isinstance(self.data, str):
            text = _json_text(self.data)
            object.__setattr__(self, "data", text)
            object.__setattr__(self, "is_json", True)
        if not self.data.isascii():
            _check_encodable("data", self.data)
        if self.type is not None:
            object.__setattr__(self, "type", _checked_type(self.type))
        if self.id is not None:
            object.__setattr__(self, "id", _checked_id(self.id))
        if self.retry is not None:
            _check_retry(self.retry)

    @property
    def size_bytes(self) -> int:
        """Bytes of the data in UTF-8."""
        return len(self.data) if self.data.isascii() else len(self.data.encode())

    def encode(self, position: str | None = None) -> bytes:
        """The bytes of this event on the wire, with the blank line that ends it.

        ``position`` is the id to send where the event has none of its own.
        """
        # Lines end at CR, LF and CRLF, and at nothing else: str.splitlines would cut at U+2028
        # and \x0b too. The space after the colon is the one a parser strips.
        text = self.data
        if "\r" in text:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        if "\n" in text:
            text = text.replace("\n", "\ndata: ")
        head = f"event: {self.type}\ndata: " if self.type else "data: "
        event_id = self.id or position
        tail = f"\nid: {event_id}" if event_id else ""
        if self.retry is not None:
            tail += f"\nretry: {self.retry}"
        return f"{head}{text}{tail}\n\n".encode()


def encode_channels_event(type: str, channels: Iterable[str], position: str) -> bytes:
    """The bytes of `RESET` or `STREAM_END`: data is ``{"channels": [...]}``, sorted."""
    data = json.dumps({"channels": sorted(channels)})
    return f"event: {type}\ndata: {data}\nid: {position}\n\n".encode()


def encode_retry(retry_ms: int) -> bytes:
    """A retry line of its own. A parser acts on it at once; it needs no blank line."""
    return b"retry: %d\n" % retry_ms


def encode_id(position: str) -> bytes:
    """A block that only sets the last event ID: no data, so no event is dispatched (9.2.6)."""
    return f"id: {position}\n\n".encode()


def encode_padding(size_bytes: int) -> bytes:
    """A comment of ``size_bytes`` bytes, at most 8 KiB, for clients that need a first chunk."""
    return (
        b":" + b" " * (min(size_bytes, _MAX_PADDING_BYTES) - 2) + b"\n" if size_bytes > 1 else b""
    )


def _json_text(data: object) -> str:
    if isinstance(data, (bytes, bytearray, memoryview)):
        raise InvalidEvent("data", data, "is bytes, and an event stream is text: decode it first")
    try:
        return _json_dumps(data)
    except (TypeError, ValueError, RecursionError) as error:
        why = f"can't be made JSON ({error}): publish text, or teach the app's JSON provider"
        raise InvalidEvent("data", data, why) from error


def _checked_type(value: object) -> str | None:
    if not isinstance(value, str):
        raise InvalidEvent("type", value, f"must be text, not {type(value).__name__}")
    if value in (RESET, STREAM_END):
        why = "is how the stream itself speaks: choose another name, or use sse.end(channel)"
        raise InvalidEvent("type", value, why)
    _check_line("type", value)
    return value or None


def _checked_id(value: object) -> str | None:
    # The older extensions took numbers; True is a number to Python, and surely a mistake here.
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise InvalidEvent("id", value, f"must be text or a number, not {type(value).__name__}")
    _check_line("id", value)
    if any(ord(character) < _FIRST_PRINTABLE or character == "\x7f" for character in value):
        # Neither may a header's value have one, and a server's 400 would end the reader for good.
        raise InvalidEvent("id", value, "has a control character: use printable text")
    if value != value.strip(" \t"):
        # A header's value loses them (RFC 9110, 5.5), so the reader could never resume from it.
        raise InvalidEvent("id", value, "begins or ends with white space: strip it")
    if len(value.encode()) > _MAX_ID_BYTES:
        why = f"is longer than {_MAX_ID_BYTES} bytes and would not fit a request header: shorten it"
        raise InvalidEvent("id", value, why)
    return value or None


def _check_line(field_name: str, value: str) -> None:
    for character, name in (("\n", "a line feed"), ("\r", "a carriage return"), ("\0", "a NUL")):
        if character in value:
            raise InvalidEvent(field_name, value, f"contains {name}, which would break the framing")
    _check_encodable(field_name, value)


def _check_encodable(field_name: str, value: str) -> None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        why = f"has a lone surrogate at {error.start}, which UTF-8 can't carry: repair the text"
        raise InvalidEvent(field_name, value, why) from error


def _check_retry(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        kind = type(value).__name__
        raise InvalidEvent("retry", value, f"must be a whole number of milliseconds, not {kind}")
    if value < 0:
        raise InvalidEvent("retry", value, "must not be negative: 0 reconnects at once")
