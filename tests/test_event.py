"""Events: whatever an application publishes reaches a page as it was, or is refused with a reason.

The reader on the other side is `harness.event_stream`, written from WHATWG HTML 9.2.6.
"""

from __future__ import annotations

import json
import re
from collections import UserString
from collections.abc import Iterator
from decimal import Decimal
from enum import Enum, IntEnum
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markupsafe import Markup
from werkzeug.local import LocalProxy

from flask_eventstream import event as event_module
from flask_eventstream.errors import InvalidEvent
from flask_eventstream.event import (
    COMMENT,
    RESET,
    Event,
    encode_channels_event,
    encode_id,
    encode_padding,
    encode_retry,
    use_json_dumps,
)
from flask_eventstream.log.position import Position, compose
from harness.event_stream import Dispatched, EventStreamParser

# Everything that UTF-8 can carry, with what breaks careless encoders made likely.
TEXT = st.text(
    st.one_of(
        st.sampled_from("\r\n\0 \t:\v\f\x1c\x1d\x1e\x85\u2028\u2029\ufeff"),
        st.characters(exclude_categories=["Cs"]),
    )
)
LINE = TEXT.map(lambda text: re.sub("[\r\n\0]", "", text))
RESERVED = (
    *("stream-reset", "stream-end", "stream-expired", "stream-error", "run-end"),
    *("presence-state", "presence-join", "presence-leave", "presence-count"),
)
TYPES = LINE.filter(
    lambda text: text not in {*RESERVED, "error", "open"} and len(text.encode()) <= 200
)
PRINTABLE = LINE.map(lambda text: re.sub("[\0-\x1f\x7f]", "", text).strip(" "))
IDS = PRINTABLE.filter(lambda text: len(text.encode()) <= 800)


class Kind(str, Enum):
    """Types as many applications keep them."""

    SOLD = "sold"


class Plain(Enum):
    """An Enum that is no text by itself, and one within."""

    SOLD = "sold"
    NESTED = Kind.SOLD
    NONE = None
    YES = True


class Number(IntEnum):
    """Numbers with names."""

    SEVEN = 7


class Lazy:
    """A lazy string, as Flask-Babel and WTForms make them: whatever it is asked, a text answers."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __str__(self) -> str:
        return self._text

    def __getattr__(self, name: str) -> Any:
        return getattr(str(self), name)


#: What has one obvious text, and that text.
TEXTS: list[tuple[Any, str]] = [
    *((Kind.SOLD, "sold"), (Plain.SOLD, "sold"), (Plain.NESTED, "sold"), (Number.SEVEN, "7")),
    *((Lazy("x"), "x"), (LocalProxy(lambda: "x"), "x"), (UserString("x"), "x"), (Markup("x"), "x")),
    *((0, "0"), (7, "7"), (-1, "-1"), (10**700, "1" + "0" * 700)),
    *((1.5, "1.5"), (1e300, "1e+300"), (-0.0, "-0.0"), (Decimal("1.50"), "1.50")),
    (UUID(int=5), "00000000-0000-0000-0000-000000000005"),
]
#: What has none, or several.
NO_TEXTS: list[Any] = [
    *(True, False, b"x", bytearray(b"x"), [], ("x",), {}, object(), Plain.NONE, Plain.YES),
    *(float("nan"), float("inf"), Decimal("nan"), Decimal("-inf"), 1j, 10**5000),
]


@pytest.fixture(autouse=True)
def plain_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON as without an application, whatever other tests imported."""
    monkeypatch.setattr(event_module, "_json_dumps", json.dumps)


def parse(stream: bytes, *, cuts: list[int] | None = None) -> list[Dispatched]:
    parser = EventStreamParser()
    places = [0, *sorted(cuts or []), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(places)]
    return [event for piece in pieces for event in parser.feed(piece)]


def parsed_data(data: str) -> list[str]:
    return [event["data"] for event in parse(Event(data).encode())]


def as_lines(data: str) -> str:
    """What the specification lets a page see of a text: each line end is one LF."""
    return data.replace("\r\n", "\n").replace("\r", "\n")


# ---- data


@given(TEXT)
@example("")
@example("\n")
@example("\r")
@example("\r\n\r\n")
@example("\n\r")
@example(" leading")
@example("trailing\n")
@example("\ufeffmark")
@example("data: x\n\nevent: y")
def test_any_text_arrives(data: str) -> None:
    """Any text is one event with that text, line ends normalised to LF."""
    assert parsed_data(data) == [as_lines(data)]


@given(TEXT, TYPES, IDS, st.none() | st.integers(0, 10**9))
def test_any_event_arrives(data: str, type: str, id: str, retry: int | None) -> None:
    """Type, data, id and retry arrive as they were, whatever is in them."""
    (event,) = parse(Event(data, type, id, retry).encode())

    assert event == Dispatched(type=type or "message", data=as_lines(data), id=id, retry=retry)


@given(st.lists(TEXT, min_size=1, max_size=5), st.data())
def test_events_arrive_however_the_network_cuts_them(texts: list[str], data: st.DataObject) -> None:
    """Events in a row arrive in order, also when the stream is cut anywhere."""
    stream = b"".join(Event(text).encode(str(place)) for place, text in enumerate(texts))
    cuts = data.draw(st.lists(st.integers(0, len(stream))))

    events = parse(stream, cuts=cuts)

    assert [as_lines(text) for text in texts] == [event["data"] for event in events]
    assert [str(place) for place in range(len(texts))] == [event["id"] for event in events]


def test_events_arrive_byte_by_byte() -> None:
    """An event that comes a byte at a time is the same event."""
    event = Event("zażółć\r\n🙂\u2028x\n", "typ\u00e9", "ä1", 5)
    stream = event.encode() * 2

    assert parse(stream, cuts=list(range(len(stream)))) == parse(stream)
    assert len(parse(stream)) == 2


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x1e", "\x85"])
def test_only_line_ends_cut_lines(separator: str) -> None:
    """What Python's splitlines cuts at, and the specification does not, stays in the line."""
    assert Event(f"a{separator}b").encode() == f"data: a{separator}b\n\n".encode()


@pytest.mark.parametrize("line_end", ["\r", "\n", "\r\n"])
def test_lines_are_fields_of_their_own(line_end: str) -> None:
    """Each line of the data has a data field, whatever ends it."""
    assert Event(f"a{line_end}b").encode() == b"data: a\ndata: b\n\n"


def test_empty_data_is_an_event() -> None:
    """An event without text is still dispatched."""
    assert Event("").encode() == b"data: \n\n"
    assert parsed_data("") == [""]


def test_nul_in_data_arrives() -> None:
    """A NUL is text like any other in data."""
    assert parsed_data("a\0b") == ["a\0b"]


def test_a_megabyte_arrives() -> None:
    """A megabyte of data in many lines arrives whole."""
    text = "ż 0123456789\n" * 80_000

    assert parsed_data(text) == [text]


def test_fields_come_in_order() -> None:
    """The bytes are those that the documentation shows."""
    assert Event("line1\nline2", "t", "x", 5).encode() == (
        b"event: t\ndata: line1\ndata: line2\nid: x\nretry: 5\n\n"
    )


def test_the_position_is_the_id_where_there_is_none() -> None:
    """An event without an own id carries the log's position, one with an own id just that."""
    assert Event("x").encode("p-1") == b"data: x\nid: p-1\n\n"
    assert Event("x", id="own").encode("p-1") == b"data: x\nid: own\n\n"
    assert Event("x").encode() == b"data: x\n\n"


@pytest.mark.parametrize(
    ("data", "size_bytes"), [("", 0), ("abc", 3), ("ż", 2), ("🙂", 4), ({"a": 1}, 8)]
)
def test_size_counts_bytes(data: Any, size_bytes: int) -> None:
    """The size of an event is that of its data in UTF-8."""
    assert Event(data).size_bytes == size_bytes


# ---- JSON


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | TEXT,
        lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    ).filter(lambda value: not isinstance(value, str))
)
def test_what_json_can_carry_arrives(value: Any) -> None:
    """Anything but text becomes JSON that a page reads as the same value."""
    (event,) = parse(Event(value).encode())

    assert json.loads(event["data"]) == value
    assert Event(value).is_json


def test_text_is_not_json() -> None:
    """Text is sent as it is, never quoted."""
    event = Event('{"a": 1}')

    assert (event.data, event.is_json) == ('{"a": 1}', False)


@pytest.fixture
def own_dumps() -> Iterator[None]:
    use_json_dumps(lambda value: f"own {value}")
    yield
    use_json_dumps(json.dumps)


@pytest.mark.usefixtures("own_dumps")
def test_another_json_can_be_used() -> None:
    """What `use_json_dumps` was given makes the text of data that is none."""
    assert Event(Decimal(5)).data == "own 5"


def test_an_event_is_a_value() -> None:
    """Events with the same fields are equal and hash alike; none can be changed."""
    assert Event({"a": 1}, "t") == Event('{"a": 1}', "t")
    assert len({Event("x"), Event("x"), Event("y")}) == 2
    with pytest.raises(AttributeError):
        Event("x").data = "y"  # type: ignore[misc]


@pytest.mark.parametrize("field", ["type", "id"])
@pytest.mark.parametrize(
    ("given", "text"),
    [pair for pair in TEXTS if len(pair[1]) <= 200],
    ids=lambda value: str(value)[:20],
)
def test_what_has_one_obvious_text_becomes_it(field: str, given: Any, text: str) -> None:
    """Numbers, UUIDs, lazy strings and members of an Enum may be types and ids."""
    event = Event("x", **{field: given})

    assert getattr(event, field) == text
    assert type(getattr(event, field)) is str


@pytest.mark.parametrize("field", ["type", "id"])
@pytest.mark.parametrize("given", NO_TEXTS, ids=lambda value: type(value).__name__)
def test_what_has_no_obvious_text_is_refused(field: str, given: Any) -> None:
    """Where nobody can tell which text is meant, the field is refused with its value's kind."""
    why = f"event {field} .*: must be text or a number, not {type(given).__name__}"
    with pytest.raises(InvalidEvent, match=why):
        Event("x", **{field: given})


@pytest.mark.parametrize(
    ("data", "text"),
    [
        *((Kind.SOLD, "sold"), (Lazy("x"), "x"), (Markup("<b>"), "<b>"), (UserString("x"), "x")),
        (LocalProxy(lambda: "x"), "x"),
    ],
)
def test_data_that_stands_for_text_is_text(data: Any, text: str) -> None:
    """A lazy string, or a member of a text Enum, is sent as its text, without quotes."""
    event = Event(data)

    assert (event.data, type(event.data), event.is_json) == (text, str, False)


def test_a_dictionary_is_never_text() -> None:
    """A dictionary that answers whatever attribute it is asked for is still an object."""

    class Bag(dict[str, Any]):
        """Such as some packages have."""

        def __getattr__(self, name: str) -> Any:
            return lambda: name

        def __str__(self) -> str:
            return "bag"

    assert Event(Bag(a=1)).data == '{"a": 1}'


@pytest.mark.parametrize("text", ["", "ä\u2028ö", "x" * 800, "order-20261125-17", "customer-17"])
def test_ids_are_kept(text: str) -> None:
    """An id is sent as it is; an empty one is none."""
    assert Event("x", id=text).id == (text or None)


def test_an_empty_type_is_none() -> None:
    """An empty type is the default type, as in the specification."""
    assert Event("x", type="").type is None
    assert Event("x", type="").encode() == b"data: x\n\n"


@pytest.mark.parametrize(
    ("given", "retry"),
    [
        *((1000, 1000), ("1000", 1000), (1000.0, 1000), (Number.SEVEN, 7), (Decimal(5), 5)),
        *((Lazy("5"), 5), ("", None), (2**31 - 1, 2**31 - 1)),
    ],
)
def test_whole_numbers_are_milliseconds(given: Any, retry: int | None) -> None:
    """A retry may be a number as text, as settings and forms have it."""
    assert Event("x", retry=given).retry == retry


def test_retry_zero_is_sent() -> None:
    """A retry of 0, reconnect at once, is not taken for none."""
    assert Event("x", retry=0).encode() == b"data: x\nretry: 0\n\n"


# ---- refused


@given(TEXT, TEXT)
@example("a\ndata: injected", "")
@example("", "1\r\nevent: injected")
@example("", "\0")
def test_nothing_can_be_injected(type: str, id: str) -> None:
    """Whatever is in type and id, the stream has one event of that type and id, or none at all."""
    try:
        stream = Event("data", type, id).encode()
    except InvalidEvent:
        return

    assert parse(stream) == [Dispatched(type=type or "message", data="data", id=id, retry=None)]


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "line feed in type": (
        {"type": "a\nb"},
        r"event type 'a\nb': contains a line feed, which would break the framing",
    ),
    "carriage return in type": (
        {"type": "a\rb"},
        r"event type 'a\rb': contains a carriage return, which would break the framing",
    ),
    "NUL in type": (
        {"type": "\0"},
        r"event type '\x00': contains a NUL, which would break the framing",
    ),
    "line feed in id": (
        {"id": "1\n"},
        r"event id '1\n': contains a line feed, which would break the framing",
    ),
    "NUL in id": (
        {"id": "1\0"},
        r"event id '1\x00': contains a NUL, which would break the framing",
    ),
    "white space around id": (
        {"id": " 1"},
        "event id ' 1': begins or ends with white space: strip it",
    ),
    "long id": (
        {"id": "ż" * 401},
        (
            f"event id '{'ż' * 58}…: is longer than 800 bytes and would not fit a request header:"
            " shorten it"
        ),
    ),
    "long number as id": (
        {"id": 10**5000},
        "event id <int>: must be text or a number, not int",
    ),
    "long type": (
        {"type": "x" * 201},
        (f"event type '{'x' * 58}…: is longer than 200 bytes and meant to be a name: shorten it"),
    ),
    "position as id": (
        {"id": "0badcafe-17"},
        (
            "event id '0badcafe-17': could be a position in a log, which has this form: put a word"
            " in front, as order-…"
        ),
    ),
    "error as type": (
        {"type": "error"},
        (
            "event type 'error': is what an EventSource says itself, of its connection: choose"
            " another name"
        ),
    ),
    "reset as type": (
        {"type": "stream-reset"},
        ("event type 'stream-reset': is how the stream itself speaks: choose another name"),
    ),
    "text as retry": (
        {"retry": "soon"},
        "event retry 'soon': must be a whole number of milliseconds, not str",
    ),
    "long retry": (
        {"retry": 2**31},
        "event retry 2147483648: must be 2147483647 milliseconds at the most",
    ),
    "endless retry": (
        {"retry": 10**5000},
        "event retry <int>: must be a whole number of milliseconds, not int",
    ),
    "fraction as retry": (
        {"retry": 1.5},
        "event retry 1.5: must be a whole number of milliseconds, not float",
    ),
    "bool as retry": (
        {"retry": True},
        "event retry True: must be a whole number of milliseconds, not bool",
    ),
    "negative retry": (
        {"retry": -1},
        "event retry -1: must not be negative: 0 reconnects at once",
    ),
    "bytes as data": (
        {"data": b"x"},
        "event data b'x': is bytes, and an event stream is text: decode it first",
    ),
    "lone surrogate": (
        {"data": "ab\ud800"},
        (
            r"event data 'ab\ud800': has a lone surrogate at 2, which UTF-8 can't carry: repair the"
            " text"
        ),
    ),
    "no number": (
        {"data": {"a": [float("nan")]}},
        (
            "event data {'a': [nan]}: can't be made JSON (JSON has no NaN, and no browser reads it;"
            " None becomes null): publish text, or teach the app's JSON provider"
        ),
    ),
    "no JSON": (
        {"data": {1, 2}},
        (
            "event data {1, 2}: can't be made JSON (Object of type set is not JSON serializable):"
            " publish text, or teach the app's JSON provider"
        ),
    ),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_refused(name: str) -> None:
    """What no stream can carry is refused where it is made; the text says how to mend it."""
    fields, text = REFUSED[name]

    with pytest.raises(InvalidEvent) as caught:
        Event(**{"data": "x", **fields})

    assert str(caught.value) == text


@pytest.mark.parametrize("name", RESERVED)
def test_the_streams_own_types_are_refused(name: str) -> None:
    """An application can't send what pages take for the stream's own word."""
    with pytest.raises(InvalidEvent, match="is how the stream itself speaks"):
        Event("x", type=name)


@pytest.mark.parametrize("name", ["error", "open", Lazy("error")])
def test_the_event_sources_own_types_are_refused(name: Any) -> None:
    """An application can't fire a page's `onerror` or `onopen`."""
    with pytest.raises(InvalidEvent, match="is what an EventSource says itself"):
        Event("x", type=name)


@given(st.lists(st.integers(0, 10**18), min_size=1, max_size=4), st.binary(min_size=4, max_size=4))
def test_no_own_id_is_a_position(sequences: list[int], epoch: bytes) -> None:
    """Whatever a log hands out as a position, an application can't give to an event of its own."""
    positions = {str(n): str(Position(epoch.hex(), n)) for n in sequences}

    for position in (*positions.values(), compose(positions)):
        with pytest.raises(InvalidEvent, match="could be a position"):
            Event("x", id=position)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("depth", [0, 1, 5])
def test_what_json_has_no_number_for_is_refused(number: float, depth: int) -> None:
    """NaN and infinities, which no browser reads, are refused at any depth."""
    data: Any = number
    for _ in range(depth):
        data = {"a": [data]}

    with pytest.raises(InvalidEvent, match="no browser reads it"):
        Event(data)


def test_words_are_no_numbers() -> None:
    """A text within the data may well say NaN or Infinity."""
    assert Event(["NaN", {"Infinity": "-Infinity"}]).is_json


def test_json_may_come_as_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A JSON provider that makes bytes, as orjson's do, is understood."""
    monkeypatch.setattr(event_module, "_json_dumps", lambda data: json.dumps(data).encode())

    assert Event({"a": 1}).data == '{"a": 1}'


@pytest.mark.parametrize("error", [TypeError, ValueError, OverflowError, RecursionError])
def test_data_that_a_provider_refuses_is_refused(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """However a JSON provider says that it can't, the event is refused."""

    def refuse(_data: object) -> str:
        raise error("no")

    monkeypatch.setattr(event_module, "_json_dumps", refuse)

    with pytest.raises(InvalidEvent, match="can't be made JSON"):
        Event({"a": 1})


@pytest.mark.parametrize("field", ["type", "id"])
def test_lone_surrogates_are_refused_in(field: str) -> None:
    """A half of a surrogate pair is refused where it is made, not when it is sent."""
    with pytest.raises(InvalidEvent, match="lone surrogate"):
        Event("x", **{field: "\udc80"})


def test_endless_data_is_refused() -> None:
    """Data that contains itself is refused like any that JSON can't carry."""
    endless: list[Any] = []
    endless.append(endless)

    with pytest.raises(InvalidEvent, match="can't be made JSON"):
        Event(endless)


# ---- what else stands in a stream


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1))
def test_channels_events_arrive(channels: list[str]) -> None:
    """The stream's own events name the channels, sorted, and are points to resume from."""
    (event,) = parse(encode_channels_event(RESET, channels, "p-7"))

    assert (event["type"], event["id"]) == (RESET, "p-7")
    assert json.loads(event["data"]) == {"channels": sorted(channels)}


@pytest.mark.parametrize(
    "piece", [COMMENT, encode_retry(3000), encode_id("p-1"), encode_padding(2048)]
)
def test_the_rest_dispatches_nothing(piece: bytes) -> None:
    """Heartbeats, retries, ids and padding are no events, whatever stands around them."""
    stream = Event("a").encode() + piece + Event("b").encode() + piece

    assert [event["data"] for event in parse(stream)] == ["a", "b"]


@pytest.mark.parametrize("piece", [COMMENT, encode_retry(3000), encode_padding(2048)])
def test_only_events_end_with_a_blank_line(piece: bytes) -> None:
    """What is no event has no blank line, at which some parsers emit an empty one."""
    assert piece.endswith(b"\n")
    assert b"\n\n" not in piece


def test_a_retry_counts_at_once() -> None:
    """A retry line sets the reconnection time without an event."""
    parser = EventStreamParser()
    parser.feed(encode_retry(1234))

    assert parser.retry == 1234


def test_an_id_alone_moves_the_reader() -> None:
    """A block with only an id is what the client sends back."""
    parser = EventStreamParser()

    assert parser.feed(encode_id("p-1")) == []
    assert parser.last_event_id == "p-1"


@pytest.mark.parametrize(
    ("asked", "sent"), [(0, 0), (1, 0), (2, 2), (3, 3), (2048, 2048), (8192, 8192), (10**9, 8192)]
)
def test_padding_is_as_long_as_asked(asked: int, sent: int) -> None:
    """Padding has the size that was asked for, up to 8 KiB."""
    assert len(encode_padding(asked)) == sent
