"""`app.factory`: for which application something is registered."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from flask import Flask

from flask_eventstream.app.factory import app_at_hand, code_of


def decorate() -> Flask | None:
    """Stands for a decorator of the extension: it has no application of its own."""
    return app_at_hand()


def test_a_factory_has_its_application() -> None:
    """The one application among a function's variables is meant, whatever its name."""
    made = Flask("made")

    assert decorate() is made


def test_a_callers_application_counts() -> None:
    """A function without an application passes the question on to who called it."""
    made = Flask("made")

    def register() -> Flask | None:
        return decorate()

    assert register() is made


def test_the_innermost_counts() -> None:
    """A function that has an application is asked before those that called it."""
    outer = Flask("outer")

    def create() -> tuple[Flask, Flask | None]:
        inner = Flask("inner")
        return inner, decorate()

    inner, found = create()
    assert found is inner
    assert found is not outer


def test_one_application_with_two_names_is_one() -> None:
    """The same application twice among the variables leaves no doubt."""
    one = Flask("one")
    same = one

    assert decorate() is same


def test_between_two_nobody_guesses() -> None:
    """A function that has two applications means neither, nor does its caller."""
    two = [Flask("one"), Flask("other")]

    def create(first: Flask, second: Flask) -> Flask | None:  # noqa: ARG001  looked at, not used
        return decorate()

    assert create(*two) is None


def test_code_is_found_behind_wrappers() -> None:
    """A function, a method and a wrapped function have the code that somebody wrote."""

    def written() -> None:
        pass

    class Some:
        def method(self) -> None:
            pass

    wrapped = functools.wraps(written)(lambda: None)

    assert code_of(written) is code_of(wrapped) is written.__code__
    assert code_of(Some().method) is Some.method.__code__


def test_each_call_of_a_factory_makes_the_same_code() -> None:
    """Functions that one factory makes are different, and their code is one."""

    def create() -> Callable[[], Any]:
        return lambda: None

    assert create() is not create()
    assert code_of(create()) is code_of(create())


def test_what_is_written_in_c_has_no_code() -> None:
    """A built-in function and an object that is called have no code to compare."""
    assert code_of(print) is None
    assert code_of(functools.partial(print)) is None
