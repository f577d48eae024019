"""`brokers.broker`: names of channels, and what every broker offers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_eventstream.brokers import check_channel
from flask_eventstream.errors import InvalidChannel


@given(st.text(max_size=300) | st.binary(max_size=300) | st.none() | st.booleans() | st.floats())
def test_a_name_is_text_of_one_line(name: Any) -> None:
    """Whatever is taken for a name is printable text of at most 200 bytes; the rest is refused."""
    try:
        taken = check_channel(name)
    except InvalidChannel:
        return

    assert isinstance(taken, str)
    assert 0 < len(taken.encode()) <= 200
    assert not any(ord(character) < 32 or ord(character) == 127 for character in taken)
    assert not taken.startswith("__")


@pytest.mark.parametrize("name", ["__control", "__keyevent@0__:set", "__"])
def test_names_of_the_brokers_own_are_refused(name: str) -> None:
    """Names that begin with two underscores are the broker's, or its server's."""
    with pytest.raises(InvalidChannel, match="__"):
        check_channel(name)


@given(
    st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=200)
)
def test_a_name_is_taken_as_it_is(name: str) -> None:
    """No name is changed on the way: two that differ are two channels."""
    if not name.startswith("__"):
        assert check_channel(name) == name
