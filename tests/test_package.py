"""The package: its names, and its version."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import flask_eventstream

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


@pytest.mark.parametrize("name", flask_eventstream.__all__)
def test_each_name_is_there(name: str) -> None:
    """Each name that the package says it has can be imported from it."""
    assert hasattr(flask_eventstream, name)


def test_the_version_is_the_projects() -> None:
    """`__version__` is what pyproject.toml says."""
    said = re.search(r'^version = "(.+)"$', PYPROJECT.read_text(encoding="utf-8"), re.MULTILINE)

    assert said is not None
    assert flask_eventstream.__version__ == said[1]


def test_other_names_are_not_there() -> None:
    """A name that nobody defined is an error, and not a version."""
    with pytest.raises(AttributeError, match="has no attribute 'versions'"):
        _ = flask_eventstream.versions  # type: ignore[attr-defined]
