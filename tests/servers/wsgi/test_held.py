"""The body that holds a thread of the server's, and when that is free again."""

from __future__ import annotations

from typing import Any

import pytest

from flask_eventstream.config import Config
from flask_eventstream.hub.admission import Admission, StreamCount
from flask_eventstream.servers.wsgi.held import Held


@pytest.fixture
def admission() -> Admission:
    """Counts for a server with one thread."""
    return Admission(Config(), random=lambda: 0.5, process=StreamCount())


def a_held(admission: Admission) -> Any:
    """A body that is counted; its hub's end is closed, as if the stream were over."""
    assert admission.hold_thread(1)
    held = Held(admission)
    held.hub_end.close()
    return held


def test_it_is_counted(admission: Admission) -> None:
    """While a body holds the only thread there is none for another."""
    held = a_held(admission)

    assert not admission.hold_thread(1)

    held.close()


def test_closing_gives_the_thread_back_once(admission: Admission) -> None:
    """A body that its server closes holds no thread, and a second time gives none back."""
    held = a_held(admission)
    held.close()
    held.close()

    assert admission.hold_thread(1)
    assert not admission.hold_thread(1)


def test_the_end_gives_the_thread_back(admission: Admission) -> None:
    """A body that was read to its end holds no thread, whether its server closes it or not."""
    held = a_held(admission)

    assert list(held) == []
    assert admission.hold_thread(1)
    assert list(held) == []


def test_being_forgotten_gives_the_thread_back(admission: Admission) -> None:
    """A body that middleware drops without closing it holds no thread."""
    held = a_held(admission)
    del held

    assert admission.hold_thread(1)
