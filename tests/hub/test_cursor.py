"""The id of a group of readers: one position, or one in each channel."""

from __future__ import annotations

import pytest

from flask_eventstream.event import Event
from flask_eventstream.hub.cursor import Cursor
from flask_eventstream.log.entries import Entry, Place
from flask_eventstream.log.position import compose, decompose


def entry(channel: str, position: str) -> Entry:
    return Entry(channel, 1, position, Event(f"on {channel}"))


def cursor() -> Cursor:
    return Cursor({"a": Place(1, "aaaaaaaa-1"), "b": Place(5, "bbbbbbbb-5")})


def test_one_log_for_all_channels_needs_one_position() -> None:
    """Where one log holds all channels, an entry's own position is the readers' id."""
    one = entry("a", "aaaaaaaa-2")

    assert Cursor().frame(one) is one.frame


def test_a_reader_of_one_channel_needs_one_position() -> None:
    """Where each channel has a log, the reader of one still has that channel's position as id."""
    one = entry("a", "aaaaaaaa-2")

    assert Cursor({"a": Place(1, "aaaaaaaa-1")}).frame(one) is one.frame


def test_an_entry_advances_its_own_channel() -> None:
    """The id has the new position of the entry's channel, and the old ones of the others."""
    at = cursor()
    at.frame(entry("b", "bbbbbbbb-6"))
    frame = at.frame(entry("a", "aaaaaaaa-2"))

    expected = compose({"a": "aaaaaaaa-2", "b": "bbbbbbbb-6"})
    assert frame == f"data: on a\nid: {expected}\n\n".encode()


def test_a_live_only_entry_moves_nothing() -> None:
    """An entry that is in no log has no id, and the next one's is as if it had not been."""
    at = cursor()
    frames = [at.frame(entry("a", "")), at.frame(entry("a", "aaaaaaaa-2"))]

    expected = compose({"a": "aaaaaaaa-2", "b": "bbbbbbbb-5"})
    assert frames == [b"data: on a\n\n", f"data: on a\nid: {expected}\n\n".encode()]


def test_a_jump_moves_only_what_is_gone() -> None:
    """After an interruption the channels that are gone go on from the new position."""
    assert cursor().jump(["b"], "cccccccc-9") == compose({"a": "aaaaaaaa-1", "b": "cccccccc-9"})
    assert Cursor().jump(["b"], "cccccccc-9") == "cccccccc-9"


def test_composed_positions_come_back() -> None:
    """What was composed is taken apart again, whatever the order of the channels."""
    positions = {"orders": "aaaaaaaa-1", "logs": "bbbbbbbb-22"}

    assert decompose(compose(positions), ["logs", "orders"]) == positions


@pytest.mark.parametrize("channels", [["a"], ["a", "c"], ["a", "b", "c"]])
def test_an_id_belongs_to_its_channels(channels: list[str]) -> None:
    """An id that was composed for other channels is not taken for one of these."""
    assert decompose(compose({"a": "aaaaaaaa-1", "b": "bbbbbbbb-2"}), channels) is None


def test_names_that_join_alike_are_told_apart() -> None:
    """Sets of channels whose names run together differ in their ids."""
    one, other = {"a": "x", "b-c": "y"}, {"a-b": "x", "c": "y"}

    assert compose(one) != compose(other)


@pytest.mark.parametrize("text", ["", "own id", "m.", "aaaaaaaa-1", "m.00000000_aaaaaaaa-1_b-2"])
def test_another_id_is_not_composed(text: str) -> None:
    """An application's own id, or a single position, is not taken apart."""
    assert decompose(text, ["a", "b"]) is None


def test_an_id_is_safe_in_a_cross_origin_request() -> None:
    """The ids of up to five channels are 128 bytes at most, of bytes that need no preflight."""
    positions = {str(number): f"0123abcd-{10**12 + number}" for number in range(5)}
    text = compose(positions)

    assert len(text) <= 128
    assert all(character.isalnum() or character in "._-" for character in text)
