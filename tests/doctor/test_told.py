"""`flask_eventstream.doctor.told`: what is believed of what a server says of itself."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_eventstream.doctor.told import read_told

WELL = {"pid": 7, "server": "gunicorn/27", "several": False, "broker": "x", "threads": 4}


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (WELL, WELL),
        ({**WELL, "pid": "7", "more": 1}, {k: v for k, v in WELL.items() if k != "pid"}),
        ({"heartbeat_s": 15.0, "lifetime_s": 0}, {"heartbeat_s": 15.0, "lifetime_s": 0}),
        ({"heartbeat_s": 0, "lifetime_s": -1}, {}),
        ({"heartbeat_s": float("inf"), "lifetime_s": float("nan")}, {}),
        ({"heartbeat_s": True, "threads": True, "pid": 10**400}, {}),
        ({"threads": -1, "uvloop": 1, "several": "no"}, {}),
        ({"pid": 1.5}, {}),
        ([1], {}),
        (None, {}),
    ],
)
def test_what_a_server_says_is_checked(said: Any, told: dict[str, Any]) -> None:
    """Of what a server says of itself only that counts which could be true."""
    assert read_told(json.dumps(said)) == told


@pytest.mark.parametrize(
    "header",
    ["", "hello", "[" * 8000, '{"pid":' * 1000, '{"pid": 1%s}' % ("0" * 5000), "[]" * 100_000],
)
def test_what_is_nothing_of_ours(header: str) -> None:
    """A header of the same name from somebody else is no error, whatever is in it."""
    assert read_told(header) == {}


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_whatever_is_said(header: str) -> None:
    """No text makes the doctor stumble."""
    assert isinstance(read_told(header), dict)
