"""One event: validated where it is made, encoded as WHATWG HTML 9.2 reads it.

Rules of this room: no clock, no socket, no loop, no Flask. An `Event` that exists can be sent;
whatever could break the framing (a line break in the type, a NUL in the id) was refused here.
"""

from __future__ import annotations

import json
import math
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from flask_eventstream.errors import InvalidEvent

__all__ = [
    "COMMENT",
    "RESET",
    "STREAM_END",
    "STREAM_EXPIRED",
    "Event",
    "Name",
    "client_id_fault",
    "could_be_position",
    "encode_channels_event",
    "encode_farewell",
    "encode_id",
    "encode_padding",
    "encode_retry",
    "obvious_text",
    "use_json_dumps",
]

#: What has one obvious text, and so can be a type, an id, or the name of a channel.
Name = str | int | float | Decimal | UUID | Enum

#: Types that the stream itself speaks with; an application's event must not be taken for one.
RESET = "stream-reset"
STREAM_END = "stream-end"
STREAM_EXPIRED = "stream-expired"
_OURS = (
    *(RESET, STREAM_END, STREAM_EXPIRED, "stream-error", "run-end"),
    *("presence-state", "presence-join", "presence-leave", "presence-count"),
)

#: What an EventSource itself dispatches: a page's onerror would take our event for a lost
#: connection, its onopen for a new one (WHATWG HTML 9.2.2).
_EVENT_SOURCES = ("error", "open")

#: Types that an application can't have, and why.
_RESERVED = {
    **dict.fromkeys(_OURS, "is how the stream itself speaks"),
    **dict.fromkeys(_EVENT_SOURCES, "is what an EventSource says itself, of its connection"),
    STREAM_END: "is how the stream itself speaks; sse.end(channel) ends a channel",
}

#: A heartbeat, and the first byte of a stream: a comment line and **no** blank line after it.
#: Several parsers emit an empty event at each blank line once they saw an id (httpx-sse#35,
#: openai-python#2722).
COMMENT = b":\n"

#: A reader sends its last event ID back as a request header, and servers bound header lines at
#: about 8 KiB (gunicorn: 8190). A tenth of that leaves room for the rest of the request.
_MAX_ID_BYTES = 800

#: Python prints no longer numbers, and no id is that long.
_MAX_NUMBER_BITS = 10_000

#: What JSON has itself. Dictionaries with attributes would say that they have any.
_NEVER_LAZY = (int, float, dict, list, tuple)

#: As long as the name of a channel may be. Limits on memory count data alone.
_MAX_TYPE_BYTES = 200

#: As long as a subject may be. A page makes up 36 (crypto.randomUUID).
_MAX_CLIENT_BYTES = 200

#: Timers count milliseconds in 32 bits with a sign, and fire at once beyond it (a month).
_MAX_RETRY_MS = 2**31 - 1

#: What the logs of this package write as positions (log/position.py). An own id of this form
#: could be the position of another event, and whoever comes back with it would lose events.
_POSITION = re.compile(r"[0-9a-f]{8}-(0|[1-9][0-9]{0,18})|m\.[0-9a-f]{8}_.*", re.ASCII)

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

    Type and id may be whatever has one obvious text, as in `Name`; the fields are text afterwards.

    Args:
        data: Text, sent as it is; anything else becomes JSON text (``data`` is text afterwards).
        type: What ``addEventListener`` listens for; ``None`` or empty is ``message``. At most 200
            bytes.
        id: The application's own id, sent as it is and a point to resume from; ``None`` or empty
            lets the broker's position be the id. At most 800 bytes.
        retry: Milliseconds that the client waits before it reconnects, from now on.
        exclude: The client id of the page that shall not get it, as it named itself. It goes with
            the event through the log, and to no reader.

    Raises:
        InvalidEvent: A field that the event stream can't carry; names the field and the remedy.
    """

    data: Any
    type: str | None = None
    id: str | None = None
    retry: int | None = None
    exclude: str | None = None
    is_json: bool = field(default=False, init=False, compare=False, repr=False)
    """True where ``data`` was not text and became JSON text."""

    def __post_init__(self) -> None:
        if type(self.data) is not str:
            text = _own_text(self.data)
            object.__setattr__(self, "is_json", text is None)
            object.__setattr__(self, "data", _json_text(self.data) if text is None else text)
        if not self.data.isascii():
            _check_encodable("data", self.data)
        if self.type is not None:
            object.__setattr__(self, "type", _checked_type(self.type))
        if self.id is not None:
            object.__setattr__(self, "id", _checked_id(self.id))
        if self.retry is not None:
            object.__setattr__(self, "retry", _checked_retry(self.retry))
        if self.exclude is not None:
            object.__setattr__(self, "exclude", _checked_client(self.exclude))

    @classmethod
    def from_json(
        cls,
        text: str,
        type: str | None = None,
        id: str | None = None,
        retry: int | None = None,
        exclude: str | None = None,
    ) -> Event:
        """An event whose data was made JSON before, as logs keep it."""
        event = cls(text, type, id, retry, exclude)
        object.__setattr__(event, "is_json", True)
        return event

    def excluding(self, client_id: Name) -> Event:
        """The same event, which one client shall not get.

        Raises:
            InvalidEvent: No client can have such an id.
        """
        make: Callable[..., Event] = Event.from_json if self.is_json else Event
        return make(self.data, self.type, self.id, self.retry, client_id)

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


def encode_farewell(type: str, channels: Iterable[str]) -> bytes:
    """The same without an id, which the reader keeps: for `STREAM_EXPIRED`."""
    return f"event: {type}\ndata: {json.dumps({'channels': sorted(channels)})}\n\n".encode()


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


def obvious_text(value: Any) -> str | None:
    """The one text that a value obviously has; ``None`` where it has none, or several.

    Text, its subclasses, lazy strings and members of an Enum are their value. Numbers, UUIDs and
    decimals are as Python prints them; True, NaN and infinities are none.
    """
    kind = type(value)
    text = _own_text(value)
    if text is not None or kind is bool:
        return text
    if isinstance(value, Enum) and not hasattr(kind, "__index__"):
        return obvious_text(value.value)
    if hasattr(kind, "__index__"):  # int and its subclasses, NumPy's whole numbers
        number = operator.index(value)
        return str(number) if number.bit_length() <= _MAX_NUMBER_BITS else None
    if issubclass(kind, float):  # plainly: NumPy's would be "np.float64(1.5)"
        return float.__repr__(value) if math.isfinite(value) else None
    if issubclass(kind, Decimal):
        return str(value) if value.is_finite() else None
    return str(value) if issubclass(kind, UUID) else None


def client_id_fault(client_id: str) -> str | None:
    """Why no page can name itself so, in words; ``None`` where it can."""
    if not client_id.isprintable():
        return "has a character that can't be printed: use printable text"
    if client_id != client_id.strip():
        return "begins or ends with white space, which a header loses: strip it"
    if len(client_id.encode()) > _MAX_CLIENT_BYTES:
        return f"is longer than {_MAX_CLIENT_BYTES} bytes: shorten it"
    return None


def could_be_position(event_id: str) -> bool:
    """True for an id of the form that logs write; whoever read it could come back anywhere."""
    return _POSITION.fullmatch(event_id) is not None


def _own_text(value: Any) -> str | None:
    """The text that a value is: a str, or what stands for one and can do what a str can."""
    kind: Any = type(value)
    if issubclass(kind, str):
        # Of a subclass the plain text: an Enum would print its member's name.
        return str.__str__(value)
    if value is None or issubclass(kind, _NEVER_LAZY) or kind.__str__ is object.__str__:
        return None
    # Lazy strings (Babel, WTForms, Werkzeug's LocalProxy) hand on whatever they are asked for.
    return str(value) if callable(getattr(value, "casefold", None)) else None


def _json_text(data: object) -> str:
    if isinstance(data, (bytes, bytearray, memoryview)):
        raise InvalidEvent("data", data, "is bytes, and an event stream is text: decode it first")
    try:
        text: str | bytes = _json_dumps(data)
        if isinstance(text, bytes):  # such as orjson's
            text = text.decode()
        if "NaN" in text or "Infinity" in text:
            json.loads(text, parse_constant=_refuse_constant)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        why = f"can't be made JSON ({error}): publish text, or teach the app's JSON provider"
        raise InvalidEvent("data", data, why) from error
    return text


def _refuse_constant(name: str) -> None:
    raise ValueError(f"JSON has no {name}, and no browser reads it; None becomes null")


def _checked_type(value: object) -> str | None:
    text = _checked_text("type", value)
    if text in _RESERVED:
        raise InvalidEvent("type", value, f"{_RESERVED[text]}: choose another name")
    if not _is_plain(text, _MAX_TYPE_BYTES):
        _check_line("type", text)
        _check_size("type", text, _MAX_TYPE_BYTES, "and meant to be a name: shorten it")
    return text or None


def _checked_id(value: object) -> str | None:
    text = _checked_text("id", value)
    if not _is_plain(text, _MAX_ID_BYTES):
        _check_line("id", text)
        if any(ord(character) < _FIRST_PRINTABLE or character == "\x7f" for character in text):
            # Nor may a header's value have one, and a server's 400 would end the reader for good.
            raise InvalidEvent("id", value, "has a control character: use printable text")
        _check_size("id", text, _MAX_ID_BYTES, "and would not fit a request header: shorten it")
    if text != text.strip(" \t"):
        # A header's value loses them (RFC 9110, 5.5), so the reader could never resume from it.
        raise InvalidEvent("id", value, "begins or ends with white space: strip it")
    if could_be_position(text):
        why = "could be a position in a log, which has this form: put a word in front, as order-…"
        raise InvalidEvent("id", value, why)
    return text or None


def _checked_client(value: object) -> str | None:
    text = _checked_text("exclude", value)
    fault = client_id_fault(text)
    if fault is not None:
        raise InvalidEvent("exclude", value, fault)
    return text or None


def _is_plain(text: str, most_bytes: int) -> bool:
    """True where there is nothing more to look for, as in most types and ids."""
    return text.isascii() and text.isprintable() and len(text) <= most_bytes


def _checked_text(field_name: str, value: object) -> str:
    text = value if type(value) is str else obvious_text(value)
    if text is None:
        why = f"must be text or a number, not {type(value).__name__}"
        raise InvalidEvent(field_name, value, why)
    return text


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


def _check_size(field_name: str, text: str, most_bytes: int, why: str) -> None:
    if len(text.encode()) > most_bytes:
        raise InvalidEvent(field_name, text, f"is longer than {most_bytes} bytes {why}")


def _checked_retry(value: object) -> int | None:
    text = obvious_text(value)
    if text == "":
        return None
    # A number as text, as forms and settings have it, and 1000.0, which is whole.
    whole = re.fullmatch(r"(-?[0-9]{1,20})(\.0+)?", text or "", re.ASCII)
    if whole is None:
        kind = type(value).__name__
        raise InvalidEvent("retry", value, f"must be a whole number of milliseconds, not {kind}")
    retry_ms = int(whole[1])
    if retry_ms < 0:
        raise InvalidEvent("retry", value, "must not be negative: 0 reconnects at once")
    if retry_ms > _MAX_RETRY_MS:
        raise InvalidEvent("retry", value, f"must be {_MAX_RETRY_MS} milliseconds at the most")
    return retry_ms
