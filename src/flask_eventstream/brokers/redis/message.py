"""An event as a Redis message: what we publish, and every form that is found in the wild.

What we publish is what flask-sse 1.0 published, and it reads it::

    {"id":"3f9a0c1d-42", "data": {"price": 7}, "type": "trade"}

``data`` is any JSON; ``type``, ``id`` and ``retry`` are there if they are set. The first ``id`` is
the position in our log, written by the script that appends. Where the event has an id of its own,
that one comes last, ``{"id":"3f9a0c1d-42", …, "id": "own"}``. Of two equal keys JSON readers take
the last (RFC 8259, 4: most do), so older ones see the event's own id, and ours sees both. The
space that is missing behind the first colon alone is how ours are told from others': a bridge from
another log may well publish an id that looks like a position of this one. It is left out.

A client that is excluded stands in a ``type`` of its own before the other one,
``"type": {"exclude": "page-1"}, "type": "trade"``: flask-sse 1.0 fails at keys it does not know.

What we read besides: the same object from anybody, without a position; the older extension's array
``["type", data]``; and any other text, which is an event's data as it is.

Rules of this room: no clock, no socket, no Redis.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from flask_eventstream.errors import EventStreamError, InvalidEvent
from flask_eventstream.event import STREAM_END, Event, could_be_position
from flask_eventstream.log.entries import HIDDEN, Entry, Kind
from flask_eventstream.log.position import Position

__all__ = [
    "END_BODY",
    "Decoder",
    "Message",
    "Unreadable",
    "decode_message",
    "encode_body",
    "encode_control",
    "encode_own_id",
]

_OURS = re.compile(r'\{"id":"([a-z0-9]{8,16}-(?:0|[1-9][0-9]{0,18}))", "data": ')
#: The same before the body, in bytes: as far as it is the same in all channels.
_POSITION = re.compile(rb'\{"id":"([a-z0-9]{8,16}-(?:0|[1-9][0-9]{0,18}))"')
_BODY = b', "data": '
_POSITION_WITHIN = 64
#: Bytes of the last message that is remembered.
_KEPT_BYTES = 64 * 1024
_DECODER = json.JSONDecoder()
_EXCLUDES = '"type": {"exclude": '

#: The body of a channel's end, as `encode_body` would make it. Older readers get an event of it.
END_BODY = f'"data": {{}}, "type": "{STREAM_END}"}}'


class Unreadable(EventStreamError):
    """A message that is no event. ``kind`` is one of few words, to count by."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.kind}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Message:
    """What a message says."""

    event: Event | None
    """``None`` where the channel ends."""
    position: Position | None
    """``None``: it is in no log of ours."""
    kind: Kind = Kind.EVENT

    def entry(self, channel: str, sequence: int) -> Entry:
        """The entry that it is in a channel's log, or in none."""
        position = str(self.position) if self.position is not None else ""
        kind = Kind.CONTROL if channel.startswith(HIDDEN) and self.event else self.kind
        return Entry(channel, sequence, position, self.event, kind)


def encode_body(event: Event) -> str:
    """The message of an event, from behind its position to its closing brace."""
    # JSON text that is itself a string is published as text, or readers would get it unquoted.
    is_raw = event.is_json and event.data[:1] not in '" \t\r\n'
    parts = [f'"data": {event.data if is_raw else json.dumps(event.data)}']
    if event.exclude:
        parts.append(f"{_EXCLUDES}{json.dumps(event.exclude)}}}")
        if not event.type:
            parts.append('"type": null')
    if event.type:
        parts.append(f'"type": {json.dumps(event.type)}')
    if event.retry is not None:
        parts.append(f'"retry": {event.retry}')
    if event.id:
        parts.append(f'"id": {json.dumps(event.id)}')
    return ", ".join(parts) + "}"


def encode_control(text: str) -> str:
    """The message of a control entry, as `encode_body` would make it of an event."""
    return f'"data": {json.dumps(text)}}}'


def encode_own_id(own_id: str) -> str:
    """An event's own id as it stands in a body, without quotes: what the index knows it by."""
    return json.dumps(own_id)[1:-1]


class Decoder:
    """Reads messages, and knows the last one: one event to many channels is checked once.

    Not thread-safe.
    """

    def __init__(self) -> None:
        self._body = b""
        self._message: Message | None = None

    def decode(self, raw: bytes) -> Message:
        """As `decode_message`.

        Raises:
            Unreadable: It is none, or its fields make no event.
        """
        start = raw.find(_BODY, 0, _POSITION_WITHIN)
        body = raw[start:]
        last = self._message
        if start > 0 and last is not None and body == self._body:
            ours = _POSITION.fullmatch(raw[:start])
            if ours is not None:
                return Message(last.event, Position.parse(ours[1].decode()), last.kind)
        message = decode_message(raw)
        # A large one is not kept for as long as nothing comes.
        is_kept = message.position is not None and len(body) <= _KEPT_BYTES
        self._body, self._message = (body, message) if is_kept else (b"", None)
        return message


def decode_message(raw: bytes) -> Message:
    """Read a message of any known form.

    Raises:
        Unreadable: It is none, or its fields make no event.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise Unreadable("not UTF-8", str(error)) from error
    try:
        ours = _OURS.match(text)
        if ours is not None:
            return _read_ours(text, ours.end(), Position.parse(ours[1]))
        return Message(_read_foreign(text), None)
    except InvalidEvent as error:
        raise Unreadable("invalid field", str(error)) from error
    except (ValueError, RecursionError) as error:
        raise Unreadable("invalid JSON", str(error)) from error


def _read_ours(text: str, start: int, position: Position | None) -> Message:
    # The data's own text is kept: reading and writing it again could change its form.
    data, end = _DECODER.raw_decode(text, start)
    rest = text[end:]
    fields = json.loads("{" + rest[2:]) if rest.startswith(", ") else {}
    if fields.get("type") == STREAM_END:
        return Message(None, position, Kind.END)
    kept, make = (data, Event) if isinstance(data, str) else (text[start:end], Event.from_json)
    event = _event(kept, fields, make)
    if rest.startswith(f", {_EXCLUDES}"):
        exclude, _ = _DECODER.raw_decode(rest, 2 + len(_EXCLUDES))
        event = event.excluding(exclude)
    return Message(event, position)


def _read_foreign(text: str) -> Event:
    if text[:1] not in ("{", "["):
        return Event(text)
    try:
        value = json.loads(text)
    except ValueError:
        return Event(text)  # "[12:30:00] user: hello" of the famous chat
    if isinstance(value, list):
        return _read_pair(value) or Event(text)
    if "data" not in value:
        raise Unreadable("no data", 'an object must have "data", and may have type, id, retry')
    own_id = value.get("id")
    if isinstance(own_id, str) and could_be_position(own_id):
        # Whoever came back with it would be taken for a reader of ours, at another place.
        del value["id"]
    try:
        return _event(value["data"], value)
    except InvalidEvent as error:
        if error.field != "retry":
            raise
        # flask-sse sends it as it is, and browsers leave out a line that they don't understand.
        return _event(value["data"], {**value, "retry": None})


def _read_pair(value: list[Any]) -> Event | None:
    """``[type, data]`` of the older extension; anything else is text that looks like a list."""
    if len(value) != 2 or not isinstance(value[0], (str, type(None))):  # noqa: PLR2004
        return None
    return Event(value[1], value[0])


def _event(data: Any, fields: dict[str, Any], make: Callable[..., Event] = Event) -> Event:
    return make(data, fields.get("type"), fields.get("id"), fields.get("retry"))
