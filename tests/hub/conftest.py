"""A hub on each kind of loop, or on one whose clock jumps."""

from __future__ import annotations

import pytest

from harness.stage import LOOPS, Clock, perform
from hub.at_hand import (
    Play,
)


@pytest.fixture(params=LOOPS)
def play(request: pytest.FixtureRequest) -> Play:
    """Run a scenario on each kind of loop."""
    return lambda scenario: perform(LOOPS[request.param], scenario)


@pytest.fixture
def play_in_no_time() -> Play:
    """Run a scenario on a loop whose clock jumps: for claims about seconds."""
    return lambda scenario: perform(Clock, scenario)
