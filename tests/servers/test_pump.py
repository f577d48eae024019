"""The pump: what it runs, what it refuses, and what its client is told where it fails."""

from __future__ import annotations

import _socket
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from flask_eventstream import Event
from flask_eventstream.hub.feed import FEED_FAILED, FEED_OPEN
from flask_eventstream.servers.pump import Pump, check_source, is_framed


def fed(source: Any) -> bytes:
    """All that a pump sends to a hub, which lets it begin."""
    pump = Pump(source, Event)
    pump.hub_end.settimeout(10)
    pump.hub_end.send(FEED_OPEN)
    pump.start()
    return b"".join(iter(lambda: pump.hub_end.recv(1000), b"")) + closed(pump.hub_end)


def closed(sock: _socket.socket) -> bytes:
    sock.close()
    return b""


async def asynchronous() -> AsyncIterator[str]:
    yield "x"


@pytest.mark.parametrize(
    ("source", "remedy"),
    [
        ("text", "a list of one"),
        (b"bytes", "a list of one"),
        ({"a": 1}, "a list of one"),
        (Event("x"), "a list of one"),
        (asynchronous(), "made with `def`"),
        (7, "a generator"),
        (None, "a generator"),
        (["x", b"y"], "decode()"),
    ],
)
def test_what_can_not_be_run(source: Any, remedy: str) -> None:
    """What is no iterable of events is refused, with what to give instead."""
    with pytest.raises(TypeError) as raised:
        check_source(source)

    assert remedy in str(raised.value)


class Old:
    """Python's older way of being iterable."""

    def __getitem__(self, index: int) -> str:
        return ["a", "b"][index]


@pytest.mark.parametrize("source", [iter("ab"), ["a", "b"], ("a", "b"), Old()])
def test_what_can_be_run(source: Any) -> None:
    """Every iterable of items is run as it is."""
    check_source(source)

    assert fed(source) == b"data: a\n\ndata: b\n\n"


def test_a_failure_sends_the_client_away_for_a_while() -> None:
    """Where the iterable raises its client is told to wait: ten seconds, and up to ten more."""

    def source() -> Iterator[str]:
        yield "before"
        raise ZeroDivisionError

    match = re.fullmatch(rb"data: before\n\nretry: ([0-9]+)\n" + FEED_FAILED, fed(source()))

    assert match is not None
    assert 10_000 <= int(match[1]) <= 20_000


@pytest.mark.parametrize(
    ("text", "framed"),
    [
        ("data: x\n\n", True),
        ("event: a\ndata: x\n\n", True),
        (": comment\n\n", True),
        ("data: x", False),
        ("data is what it is about\n\n", False),
        ("x\n\n", False),
    ],
)
def test_frames_are_known(text: str, *, framed: bool) -> None:
    """Text that looks like a whole frame is one; a word that begins like a field is not."""
    assert is_framed(text) is framed
