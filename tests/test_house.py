"""The house itself: each room has its tests, and none has grown too large."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent / "src" / "flask_eventstream"
FILES = {path.relative_to(ROOT).as_posix(): path for path in sorted(ROOT.rglob("*.py"))}
ROOMS = [name for name in FILES if Path(name).name != "__init__.py"]

#: A Flask developer knows each of these words, or the glossary explains it.
MOST_NAMES = 17
MOST_LINES = 400

#: Lines of code: what a docstring tells is not counted.
MOST_LINES_OF = {ast.ClassDef: 250, ast.FunctionDef: 40, ast.AsyncFunctionDef: 40}

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def twin_of(name: str) -> Path:
    room = Path(name)
    return TESTS / room.parent / f"test_{room.name}"


def lines_in(node: ast.AST) -> int:
    """Lines from the first to the last, without docstrings."""
    assert isinstance(node, Definition)
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    for each in ast.walk(node):
        if isinstance(each, Definition) and ast.get_docstring(each) is not None:
            told = each.body[0]
            lines -= (told.end_lineno or told.lineno) - told.lineno + 1
    return lines


@pytest.mark.parametrize("name", ROOMS)
def test_each_room_has_its_twin(name: str) -> None:
    """The tests of a room are where the room is, and there are some."""
    twin = twin_of(name)

    assert twin.is_file(), f"{name} has no tests: write {twin.relative_to(TESTS.parent)}"
    assert "def test_" in twin.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FILES)
def test_no_module_is_too_long(name: str) -> None:
    """A module can be read at a sitting."""
    lines = FILES[name].read_text(encoding="utf-8").count("\n")

    assert lines <= MOST_LINES, f"{name} has {lines} lines"


@pytest.mark.parametrize("name", FILES)
def test_no_part_is_too_long(name: str) -> None:
    """No class and no function is larger than one can keep in mind."""
    nodes = ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"), filename=name))
    parts = (node for node in nodes if isinstance(node, Definition))

    assert [part.name for part in parts if lines_in(part) > MOST_LINES_OF[type(part)]] == []


def test_the_top_level_is_a_short_list() -> None:
    """A stranger reads the names of all rooms at a glance."""
    modules = {path.stem for path in ROOT.glob("*.py")} - {"__init__"}
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}

    assert len(modules | folders) <= MOST_NAMES
