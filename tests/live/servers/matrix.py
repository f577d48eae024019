"""The tables of the reference on servers."""

from __future__ import annotations

from pathlib import Path

__all__ = ["BEHIND_NGINX", "HANDS_OFF", "HOLDS_THREADS", "LIFECYCLE", "table"]

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "servers.md"

HANDS_OFF = "WSGI servers that hand streams off"
HOLDS_THREADS = "WSGI servers on which a stream holds a thread"
BEHIND_NGINX = "Behind nginx"
LIFECYCLE = "When a worker ends"


def table(heading: str) -> dict[str, list[str]]:
    """The rows under a heading, by their first cell, without the table's own heading."""
    section = PAGE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2]
    lines = section.partition("\n## ")[0].splitlines()
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if line.startswith("| ")]
    return {row[1]: row[2:-1] for row in rows[1:]}
