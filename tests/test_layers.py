"""The shape of the package itself: who may import what, and what each module makes public.

import-linter sees the imports between our modules and those of other distributions; what it
cannot see, the standard library and `__all__`, is read here from the syntax trees.
"""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

PACKAGE = "flask_eventstream"
ROOT = Path(__file__).parents[1] / "src" / PACKAGE
FILES = {path.relative_to(ROOT).as_posix(): path for path in sorted(ROOT.rglob("*.py"))}

# gevent replaces `threading` and `_thread`; one room knows how to get the real ones.
THREADS_ONLY_IN = {"process.py"}
FLASK_ONLY_IN = {name for name in FILES if name.startswith("app/")}
REDIS_ONLY_IN = {name for name in FILES if name.startswith("brokers/redis/")}
# Commands and helpers for tests stand on the public names, as a user's program does.
DOOR_ONLY_IN = {"app/cli.py", "testing.py"}

PURE = {"event.py", "framing.py", "config.py", "hub/splice.py"} | {
    name for name in FILES if name.startswith(("log/", "access/"))
}
IMPURE_MODULES = {"time", "socket", "asyncio", "threading", "_thread", "random"}


TESTS = sorted(Path(__file__).parent.rglob("test_*.py"))


def tree_of(name: str) -> ast.Module:
    return ast.parse(FILES[name].read_text(encoding="utf-8"), filename=name)


def imported_by(name: str) -> set[str]:
    """Full names of the modules that a file imports anywhere in it, relative ones resolved."""
    package = [PACKAGE, *Path(name).parent.parts]
    found: set[str] = set()
    for node in ast.walk(tree_of(name)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *filter(None, [node.module])])
            found.update(imported_from(origin, alias.name) for alias in node.names)
    return found


def imported_from(origin: str, name: str) -> str:
    """What `from origin import name` imports: the module `origin.name` if it is one of ours."""
    path = f"{origin}.{name}".removeprefix(f"{PACKAGE}.").replace(".", "/")
    inside = f"{origin}.".startswith(f"{PACKAGE}.")
    ours = inside and {f"{path}.py", f"{path}/__init__.py"} & FILES.keys()
    return f"{origin}.{name}" if ours else origin


def roots_of(name: str) -> set[str]:
    return {module.split(".")[0] for module in imported_by(name)}


def public_names(name: str) -> list[str] | None:
    """The file's `__all__`, None if it has none that can be read without running it."""
    for node in tree_of(name).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            targets = [node.target]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            assert isinstance(node, ast.Assign | ast.AnnAssign)
            assert node.value is not None
            return list(ast.literal_eval(node.value))
    return None


def module_name(name: str) -> str:
    parts = Path(name).with_suffix("").parts
    return ".".join([PACKAGE, *(part for part in parts if part != "__init__")])


def is_public(name: str) -> bool:
    return name == "__init__.py" or not Path(name).name.startswith("_")


def test_the_package_is_found() -> None:
    """The files that this module judges are there."""
    assert "__init__.py" in FILES


@pytest.mark.parametrize("name", sorted(FILES.keys() - THREADS_ONLY_IN))
def test_threads_come_from_one_room(name: str) -> None:
    """Only `process` imports threading, so that no room gets gevent's copy by accident."""
    assert not roots_of(name) & {"threading", "_thread"}


@pytest.mark.parametrize("name", sorted(FILES.keys() - FLASK_ONLY_IN))
def test_flask_stays_at_the_top(name: str) -> None:
    """Only the rooms that a Flask app touches import flask."""
    assert "flask" not in roots_of(name)


@pytest.mark.parametrize("name", sorted(FILES.keys() - REDIS_ONLY_IN))
def test_redis_stays_in_its_broker(name: str) -> None:
    """Only the Redis broker imports redis, so nobody else needs it installed."""
    assert "redis" not in roots_of(name)


@pytest.mark.parametrize("name", sorted(FILES.keys() & PURE))
def test_pure_rooms_are_pure(name: str) -> None:
    """Pure rooms import no clock, socket, loop, thread or randomness."""
    assert not roots_of(name) & IMPURE_MODULES


@pytest.mark.parametrize("name", sorted(FILES.keys() - DOOR_ONLY_IN))
def test_nobody_inside_goes_through_the_door(name: str) -> None:
    """No room imports the package itself: that would be a cycle through everything."""
    assert PACKAGE not in imported_by(name)


@pytest.mark.parametrize("name", sorted(filter(is_public, FILES)))
def test_each_public_module_says_what_is_public(name: str) -> None:
    """Each public module has an `__all__` without doubles."""
    names = public_names(name)

    assert names is not None
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", sorted(filter(is_public, FILES)))
def test_what_is_public_exists(name: str) -> None:
    """Each name in a module's `__all__` can be had from the module."""
    module = importlib.import_module(module_name(name))

    assert [each for each in public_names(name) or [] if not hasattr(module, each)] == []


def test_the_door_opens() -> None:
    """The names that the documentation promises are public names of the package."""
    promised = {"EventStream", "Event", "Publisher", "sse", "send_event"}

    assert promised <= set(public_names("__init__.py") or [])


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.stem)
def test_each_test_says_its_claim(path: Path) -> None:
    """Each test has a docstring, which is its claim in a sentence."""
    tree = ast.parse(path.read_text(encoding="utf-8"), filename=path.name)
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    tests = [node for node in functions if node.name.startswith("test_")]

    assert [node.name for node in tests if not ast.get_docstring(node)] == []
