"""Events as Redis messages: what we write, and every form that is found in the wild."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_eventstream.brokers.redis.message import (
    END_BODY,
    Decoder,
    Message,
    Unreadable,
    decode_message,
    encode_body,
)
from flask_eventstream.event import RESET, STREAM_END, Event
from flask_eventstream.log.entries import Kind
from flask_eventstream.log.position import Position

POSITION = Position("0badcafe", 42)

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
LINE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r\0"))
PRINTABLE = LINE.map(lambda text: re.sub("[\0-\x1f\x7f]", "", text).strip(" "))
IDS = PRINTABLE.filter(lambda text: len(text.encode()) <= 800)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | NUMBERS | TEXT


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return inner | st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3)


JSON = nested(nested(SCALARS))


@st.composite
def events(draw: st.DrawFn) -> Event:
    kind = draw(st.none() | LINE.filter(lambda text: text not in (RESET, STREAM_END)))
    retry = draw(st.none() | st.integers(0, 10**9))
    return Event(draw(TEXT | JSON), kind, draw(st.none() | IDS), retry)


def message_of(event: Event) -> bytes:
    """The whole message, as the script in Redis puts it together."""
    return f'{{"id":"{POSITION}", {encode_body(event)}'.encode()


def read(text: str) -> Message:
    return decode_message(text.encode())


# ---- ours


@given(events())
def test_an_event_survives(event: Event) -> None:
    """What we publish we read: the same event, byte for byte on the wire, and its position."""
    message = decode_message(message_of(event))

    assert message == Message(event, POSITION)
    assert message.event is not None
    assert message.event.encode(str(POSITION)) == event.encode(str(POSITION))


@given(events())
def test_others_read_what_we_write(event: Event) -> None:
    """Our message is a JSON object with the event's fields, for any reader of JSON."""
    fields = json.loads(message_of(event))

    assert fields["id"] == (event.id or str(POSITION))
    assert fields.get("type") == event.type
    assert fields.get("retry") == event.retry
    # A reader makes JSON of what is not text.
    shown = fields["data"] if isinstance(fields["data"], str) else None
    assert shown in (None, event.data)


@given(events())
def test_a_message_is_one_line_of_ascii_where_data_is_text(event: Event) -> None:
    """What our own encoding writes is ASCII without line breaks, whatever the text."""
    if not event.is_json:
        body = encode_body(event)

        assert body.isascii()
        assert "\n" not in body


def test_data_stays_an_object() -> None:
    """Data that is no text is part of the object, not a string with JSON in it."""
    assert json.loads(message_of(Event({"question": ["Why?"]})))["data"] == {"question": ["Why?"]}


def test_a_json_text_that_is_a_string_keeps_its_quotes() -> None:
    """An object whose JSON is a string is read with the quotes that other brokers keep."""
    event = Event(dt.date(2026, 1, 2))

    message = decode_message(message_of(event))

    assert message.event is not None
    assert message.event.data == event.data == '"Fri, 02 Jan 2026 00:00:00 GMT"'


def test_the_end_of_a_channel() -> None:
    """A channel's end has a position and no event."""
    assert read(f'{{"id":"{POSITION}", {END_BODY}') == Message(None, POSITION, Kind.END)


def test_older_readers_get_an_event_at_the_end() -> None:
    """To others the end is an event of the type that our own readers get."""
    assert json.loads(f'{{"id":"{POSITION}", {END_BODY}') == {
        "id": str(POSITION),
        "data": {},
        "type": "stream-end",
    }


# ---- in the wild


@pytest.mark.parametrize(
    ("text", "event"),
    [
        ('{"data": {"q": "Why?"}, "type": "new_answers"}', Event({"q": "Why?"}, "new_answers")),
        ('{"data": "plain"}', Event("plain")),
        ('{"type": "t", "data": "x", "id": "7", "retry": 5}', Event("x", "t", "7", 5)),
        ('{"data": "x", "id": 7}', Event("x", id="7")),
        ('{"data": "x", "id": 1.5, "type": 404}', Event("x", "404", "1.5")),
        ('{"data": "x", "retry": "1000"}', Event("x", retry=1000)),
        ('{"data": "x", "retry": 1000.0}', Event("x", retry=1000)),
        ('{"data": "x", "retry": "soon", "id": 3}', Event("x", id="3")),
        ('{"data": "x", "retry": -1}', Event("x")),
        ('{"data": null}', Event(None)),
        ('{"data": "two\\nlines"}', Event("two\nlines")),
        ('{"data": "x", "more": "unknown"}', Event("x")),
        ('{"data": "x", "type": null, "id": null, "retry": null}', Event("x")),
        ('{"id": "mine", "data": "x"}', Event("x", id="mine")),
        ('["new_answers", {"question": 1}]', Event({"question": 1}, "new_answers")),
        ('["t", "x"]', Event("x", "t")),
        ('[null, "x"]', Event("x")),
        ("bare text", Event("bare text")),
        ("", Event("")),
        ("[12:00] me: hi", Event("[12:00] me: hi")),
        ("[12] me: hi", Event("[12] me: hi")),
        ("[1, 2, 3]", Event("[1, 2, 3]")),
        ("[1, 2]", Event("[1, 2]")),
        ("{not json}", Event("{not json}")),
        ("42", Event("42")),
        ('"quoted"', Event('"quoted"')),
        ("żółć 🙂", Event("żółć 🙂")),
    ],
)  # fmt: skip
def test_forms_in_the_wild(text: str, event: Event) -> None:
    """Others' messages are read: objects, pairs of the older extension, and any other text."""
    assert read(text) == Message(event, None)


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b'{"type": "t"}', "no data"),
        (b"{}", "no data"),
        (b'{"data": "x", "type": "a\\nb"}', "invalid field"),
        (b'{"data": "x", "type": [5]}', "invalid field"),
        (b'{"data": "x", "id": "a\\u0000b"}', "invalid field"),
        (b'{"data": [NaN]}', "invalid field"),
        (b'{"data": "x", "type": "error"}', "invalid field"),
        (b'{"data": "\\ud800"}', "invalid field"),
        (b'{"data": "x", "type": "stream-end"}', "invalid field"),
        (b'{"data": "x", "type": "stream-reset"}', "invalid field"),
        (b'["a\\nb", "x"]', "invalid field"),
        (b'{"id":"0badcafe-1", "data": {', "invalid JSON"),
        (b'{"id":"0badcafe-1", "data": 1, "type"', "invalid JSON"),
    ],
)
def test_unreadable_messages(raw: bytes, kind: str) -> None:
    """What makes no event is refused, with one of few words to count by."""
    with pytest.raises(Unreadable) as caught:
        decode_message(raw)

    assert caught.value.kind == kind
    assert str(caught.value).startswith(f"{kind}: ")


@given(st.binary())
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    """No message whatever makes the reader raise anything else."""
    try:
        message = decode_message(raw)
    except Unreadable:
        return

    assert message.event is not None or message.position is not None


@given(JSON, TEXT)
def test_any_json_is_read_or_refused(value: Any, key: str) -> None:
    """So it is with anything that is JSON."""
    for text in (json.dumps(value), json.dumps({"data": value, key: value})):
        try:
            read(text)
        except Unreadable:
            continue


@pytest.mark.parametrize("raw", [b"[" * 1_000_000, b'{"data":' * 1_000_000], ids=len)
def test_deep_nesting_is_refused(raw: bytes) -> None:
    """Brackets without end exhaust nothing."""
    with pytest.raises(Unreadable) as caught:
        decode_message(raw)

    assert caught.value.kind == "invalid JSON"


@pytest.mark.parametrize(
    "text",
    [
        '{"id": "abcdefgh-1", "data": "x"}',
        '{"id":"0badcafe-007", "data": "x"}',
        '{"id":"0badcafe-99999999999999999999", "data": "x"}',
    ],
)
def test_what_only_looks_like_a_position(text: str) -> None:
    """An id that others publish is the event's own, also if it is like a position of ours."""
    message = read(text)

    assert message == Message(Event("x", id=json.loads(text)["id"]), None)


@pytest.mark.parametrize(
    "text",
    [
        '{"id": "0badcafe-1", "data": "x"}',
        '{"id":"0badcafe-1","data":"x"}',
        '{"data": "x", "id": "m.0badcafe_0badcafe-1"}',
    ],
)
def test_what_could_be_a_position_is_left_out(text: str) -> None:
    """Others' id of our form is left out: whoever came back with it could be taken for ahead."""
    assert read(text) == Message(Event("x"), None)


@pytest.mark.parametrize(
    ("text", "event"),
    [
        ('{"data": "x", "id": 1.5, "type": 5, "retry": "1000"}', Event("x", "5", "1.5", 1000)),
        ('[5, "x"]', Event('[5, "x"]')),
    ],
)
def test_what_older_processes_may_send(text: str, event: Event) -> None:
    """Numbers where text is usual, which older processes let pass, are read as their text."""
    assert read(text) == Message(event, None)


def test_the_same_body_is_read_once() -> None:
    """A body that comes again, at another place, is the same event, and anything else is not."""
    decoder = Decoder()
    body = ', "data": {"a": 1}, "type": "t"}'
    first, second = (
        decoder.decode(f'{{"id":"aaaaaaaa-{number}"{body}'.encode()) for number in (1, 2)
    )

    assert second.event is first.event
    assert (str(first.position), str(second.position)) == ("aaaaaaaa-1", "aaaaaaaa-2")
    for raw in (
        '{"id":"aaaaaaaa-3", "data": {"a": 2}, "type": "t"}',
        '{"id": "aaaaaaaa-3"' + body,
        '{"id":"other"' + body,
        "[1]",
    ):
        assert decoder.decode(raw.encode()) == decode_message(raw.encode())


def test_a_large_body_is_not_kept() -> None:
    """A body of megabytes is not held until the next message comes."""
    decoder = Decoder()
    raw = message_of(Event("x" * 100_000))

    assert decoder.decode(raw) == decode_message(raw)

    assert decoder._message is None
