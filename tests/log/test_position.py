"""Positions: what travels to the client and comes back, one place or one per channel."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_eventstream.log.position import Position, compose, decompose

EPOCHS = st.text("abcdef0123456789", min_size=8, max_size=8)
POSITIONS = st.builds(Position, EPOCHS, st.integers(0, 2**63 - 1))


@given(POSITIONS)
def test_a_position_comes_back(position: Position) -> None:
    """What a client sends back is the position that it was given."""
    assert Position.parse(str(position)) == position


@given(POSITIONS)
def test_a_position_needs_no_preflight(position: Position) -> None:
    """A position has only characters, and no more of them, that need no preflight."""
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", str(position))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "abcdef01",
        "abcdef01-",
        "-5",
        "abcdef0-5",
        "abcdef01-05",
        "abcdef01-+5",
        "abcdef01--5",
        "abcdef01-5 ",
        " abcdef01-5",
        "abcdef01-5\n",
        "ABCDEF01-5",
        "abcdef01-٣",
        "abcdef01-5-5",
        "abcdef01_5",
        "ąbcdef01-5",
        f"{'a' * 17}-5",
        f"abcdef01-{'9' * 20}",
    ],
)
def test_anything_else_is_no_position(text: str) -> None:
    """Text that is not exactly a position is none, however much it looks like one."""
    assert Position.parse(text) is None


@given(st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    """Whatever a client sends, parsing it gives a position of the same text, or none."""
    position = Position.parse(text)

    assert position is None or str(position) == text


# ---- one id for several channels

CHANNELS = st.dictionaries(st.text(min_size=1), POSITIONS.map(str), min_size=1, max_size=7)


@given(CHANNELS)
def test_positions_of_several_channels_come_back(positions: dict[str, str]) -> None:
    """The one id of a reader of several channels gives each channel's position back."""
    assert decompose(compose(positions), positions) == positions


@given(CHANNELS, st.sets(st.text(min_size=1), min_size=1))
def test_one_id_belongs_to_its_channels(positions: dict[str, str], others: set[str]) -> None:
    """The id of one set of channels says nothing about any other set."""
    assert set(positions) == others or decompose(compose(positions), others) is None


@given(st.text(), st.sets(st.text(min_size=1), min_size=1))
def test_other_text_is_no_id_of_several(text: str, channels: set[str]) -> None:
    """Whatever a client sends, taking it apart gives positions for these channels, or nothing."""
    positions = decompose(text, channels)

    assert positions is None or set(positions) == channels


def test_four_channels_need_no_preflight() -> None:
    """The id of four channels has only safe characters and at most 128 bytes, however old."""
    composed = compose({f"channel {n}": str(Position("0badcafe", 2**63 - 1)) for n in range(4)})

    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", composed)
