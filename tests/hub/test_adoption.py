"""`hub.adoption`: the message that gives a stream to a hub."""

from __future__ import annotations

import dataclasses
import socket
import typing

import pytest

from flask_eventstream.hub.adoption import Adoption


def test_it_holds_nothing_that_could_be_called() -> None:
    """Each field is a socket, or a value that another process could be sent."""
    hints = typing.get_type_hints(Adoption)

    assert {field.name for field in dataclasses.fields(Adoption)} == hints.keys()
    assert [name for name, hint in hints.items() if "Callable" in str(hint)] == []


def test_it_is_not_changed() -> None:
    """Whoever has sent it can't take anything of it back."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        adoption = Adoption(ours)

        with pytest.raises(dataclasses.FrozenInstanceError):
            adoption.may_chunk = True  # type: ignore[misc]
