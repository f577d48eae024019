"""What a reader asks for: plain values that can be sent to another process."""

from __future__ import annotations

import pytest

from flask_eventstream.brokers.memory import MemoryBroker
from flask_eventstream.hub.request import (
    After,
    Now,
    Reader,
    Start,
    StreamRequest,
    new_stream_id,
)
from flask_eventstream.log.entries import Missed, Place, Replay, UpToDate

IN_ONE_LOG = MemoryBroker("memory://", retention=None).arrive(["a", "b"], None)
IN_TWO_LOGS = UpToDate(
    {"a": 3, "b": 0},
    Replay(
        (),
        frozenset(),
        sequence=0,
        start="m.1_x-1_y-2",
        position="m.1_x-1_y-2",
        ended=frozenset({"b"}),
        places={"a": Place(3, "x-3"), "b": Place(0, "y-2")},
    ),
)


@pytest.mark.parametrize("start", [Now(), After("é-7")])
@pytest.mark.parametrize("standing", [Missed(), IN_ONE_LOG, IN_TWO_LOGS])
def test_a_request_survives_json(start: Start, standing: Missed | UpToDate) -> None:
    """A request that went through JSON is the same, with every field of its own."""
    asked = StreamRequest(
        ("a", "b"),
        start,
        standing,
        tells_position=True,
        padding_bytes=2048,
        lifetime_s=12.5,
        reader=Reader("s", client_id="c", subject="u", grant="g", expires_at=1.5),
    )

    assert StreamRequest.from_json(asked.to_json()) == asked


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"channels": 1}', '{"start": {"kind": "Now"}}'])
def test_what_is_no_request_is_refused(text: str) -> None:
    """Text that is something else is a ValueError."""
    with pytest.raises(ValueError, match="no request for a stream"):
        StreamRequest.from_json(text)


def test_each_stream_has_a_name_of_its_own() -> None:
    """Two requests have readers with different stream ids, which are short."""
    names = {StreamRequest().reader.stream_id for _ in range(100)}

    assert len(names) == 100
    assert len(new_stream_id()) == 12


def test_a_grant_is_not_shown() -> None:
    """A reader's representation, and its request's, keep the grant to themselves."""
    assert "secret" not in repr(StreamRequest(reader=Reader(grant="secret")))


def test_a_request_can_last_otherwise() -> None:
    """A request for a stream of another lifetime differs in nothing else."""
    asked = StreamRequest(("a",), After("x"), lifetime_s=1)

    assert asked.lasting(2).lifetime_s == 2
    assert asked.lasting(2).lasting(1) == asked


@pytest.mark.parametrize(("start", "after"), [(Now(), None), (After("x"), "x")])
def test_where_the_log_is_read_from(start: Start, after: str | None) -> None:
    """A reader from now on names no event, one that was here before its last."""
    assert StreamRequest(start=start).after == after
