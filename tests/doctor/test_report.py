"""`flask_eventstream.doctor.report`: how a remark is shown, whatever a server has said."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_eventstream.doctor.remedies import Level
from flask_eventstream.doctor.report import Remark, escape, fine, problem, quote, render, unknown


def test_a_finding_as_it_is_shown() -> None:
    """A finding is a headline, why it matters, and lines to copy; what is fine is one line."""
    assert render(Remark(None, "uvloop is there")) == "  ok      uvloop is there"
    assert render(Remark(Level.UNKNOWN, "how: it won't say")) == "  unknown how: it won't say"
    assert render(Remark(Level.PROBLEM, "Broken", "Because.", "mend it\nso")) == (
        "  problem Broken\n          Because.\n\n              mend it\n              so\n"
    )
    assert render(Remark(Level.ADVICE, "Better", "So.", "x")).startswith("  advice  Better\n")


@given(st.text(st.characters(), max_size=400))
def test_what_was_seen_is_one_line(said: str) -> None:
    """Whatever a server says stays on its line, is bounded, and steers no terminal."""
    shown = escape(said)

    assert shown.isprintable()
    assert len(shown) <= 300 * 10
    assert "\n" not in fine("handed-off", server=said).headline
    assert "\n" not in unknown("redis-unasked", what=said).headline


def test_what_is_printable_stays() -> None:
    """Names of hosts and servers are shown as they are, and numbers stay numbers."""
    assert escape("Gewürze/1.0 (Ω)") == "Gewürze/1.0 (Ω)"
    assert escape("a\r\n\x9b\u202e\ud800") == "a\\r\\n\\x9b\\u202e\\ud800"
    assert escape(1.5) == 1.5


def test_what_is_long_is_cut() -> None:
    """A head of a hundred kilobytes does not fill the screen."""
    assert escape("x" * 100_000) == "x" * 299 + "…"


def test_a_forged_line_is_seen_through() -> None:
    """A server that says the words of a report, with a line break before them, adds no line."""
    lie = "x\n\n  ok      all is well\n\nProblems: 0. Advice: 0."
    remark = problem("held", server=lie, why=lie, room="", app="shop:app")
    shown = render(remark).splitlines()

    assert "  ok      all is well" not in shown
    assert not any(line.startswith("Problems:") for line in shown)
    assert all(line.startswith(" " * 10) for line in shown[1:] if line)


@pytest.mark.parametrize("mend", ["do this\n", "\ndo this"])
def test_lines_of_our_own_take_the_place(mend: str) -> None:
    """Lines that were made for what was seen stand in the place of the finding's own."""
    assert problem("held", mend, server="s", why="w", room="r", app="a").mend == "do this"


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Cf", "Zl", "Zp"]), max_size=200))
def test_a_quoted_word_is_one_word(said: str) -> None:
    """What stands in a command to copy is one word of it, whatever is in it."""
    assert shlex.split(quote(said)) == [escape(said)]
