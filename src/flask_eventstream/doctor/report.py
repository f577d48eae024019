"""The words of a report: texts filled in with what was seen, and laid out for a terminal.

What a server says may be meant to deceive: nothing of it begins a line, steers the terminal, or
becomes part of a command that is copied.
"""

from __future__ import annotations

import shlex
import textwrap
from dataclasses import dataclass
from typing import Any

from flask_eventstream.doctor.remedies import FINDINGS, FINE, Level

__all__ = ["Remark", "escape", "fine", "problem", "quote", "render", "unknown"]

_WIDTH = 96
_MARGIN = " " * 10

#: Of any one thing that was seen.
_MAX_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing that was checked: fine, or a finding."""

    level: Level | None
    """``None`` where it is fine."""
    headline: str
    why: str = ""
    mend: str = ""


def problem(key: str, mend: str = "", **seen: Any) -> Remark:
    """A finding, with what was seen in its words.

    Args:
        key: Which, of `remedies.FINDINGS`.
        mend: Lines of our own, where the finding has none that fit every case.
        seen: What stands in its words.
    """
    finding = FINDINGS[key]
    shown = {name: escape(value) for name, value in seen.items()}
    why = finding.why.format(**shown)
    return Remark(
        finding.level,
        finding.headline.format(**shown),
        why[:1].upper() + why[1:],
        mend.strip("\n") or finding.mend.format(**shown),
    )


def fine(key: str, **seen: Any) -> Remark:
    """A line for what is as it should be."""
    shown = {name: escape(value) for name, value in seen.items()}
    return Remark(None, FINE[key].format(**shown))


def unknown(key: str, **seen: Any) -> Remark:
    """A line for what could not be seen."""
    return Remark(Level.UNKNOWN, fine(key, **seen).headline)


def render(remark: Remark) -> str:
    """A remark as lines for a terminal, without the last line's end."""
    label = remark.level.value if remark.level else "ok"
    if not remark.mend:
        return f"  {label:<7} {remark.headline}"
    why = textwrap.fill(
        remark.why, _WIDTH, initial_indent=_MARGIN, subsequent_indent=_MARGIN,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    mend = textwrap.indent(remark.mend, _MARGIN + "    ")
    return f"  {label:<7} {remark.headline}\n{why}\n\n{mend}\n"


def escape(value: Any) -> Any:
    """Text on one line, of a bounded length, whose control characters are spelled out."""
    if not isinstance(value, str):
        return value
    cut = value if len(value) <= _MAX_CHARACTERS else f"{value[: _MAX_CHARACTERS - 1]}…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)


def quote(text: str) -> str:
    """One word of a shell's command, whatever is in it."""
    return shlex.quote(escape(text))
