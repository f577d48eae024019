"""Fixtures of the Flask side's tests."""

from __future__ import annotations

import pytest

from flask_eventstream import sse
from flask_eventstream.app.guards import Guards
from flask_eventstream.app.rule_book import RuleBook


@pytest.fixture(autouse=True)
def _ready_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ready-made object without the guards and rules of other tests."""
    monkeypatch.setattr(sse, "_guards", Guards())
    monkeypatch.setattr(sse, "_rules", RuleBook())
