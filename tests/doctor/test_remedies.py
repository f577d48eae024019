"""`flask_eventstream.doctor.remedies`: every text is whole, used, explained, and true."""

from __future__ import annotations

import inspect
import re
import string
from pathlib import Path

import flask_eventstream
from flask_eventstream.doctor.remedies import BACK_AT_NGINX, FINDINGS, FINE, HELD, SOCKET_UNIT

PACKAGE = Path(flask_eventstream.__file__).parent


def source_of(*folders: str) -> str:
    paths = [path for folder in folders for path in sorted((PACKAGE / folder).rglob("*.py"))]
    return "".join(path.read_text(encoding="utf-8") for path in paths if path.name != "remedies.py")


def test_each_finding_is_complete() -> None:
    """Each finding has a headline without an end, a reason with one, and lines that mend it."""
    for key, finding in FINDINGS.items():
        assert not finding.headline.endswith("."), key
        assert finding.why.endswith((".", "{room}")), key
        assert finding.mend.strip(), key


def test_each_text_is_used() -> None:
    """No finding and no line lies there that nothing leads to."""
    source = source_of("doctor")

    assert [key for key in (*FINDINGS, *FINE) if f'"{key}"' not in source] == []


def test_the_reasons_for_holding_exist() -> None:
    """Each reason that has a remedy of its own is one that the code gives."""
    source = source_of("servers/wsgi")

    assert [sign for sign, _ in HELD if sign not in source] == []
    assert HELD[-1][0] == ""
    for _, mend in HELD:
        names = {name for _, name, _, _ in string.Formatter().parse(mend) if name}
        assert names <= {"app"}


def test_the_page_has_each_finding() -> None:
    """The how-to explains each finding by its headline."""
    page = PACKAGE.parents[1] / "docs" / "how-to" / "find-what-is-wrong.md"
    text = page.read_text(encoding="utf-8")
    shown = {
        key: inspect.cleandoc(re.sub(r"\{\w+\}", "…", finding.headline))
        for key, finding in FINDINGS.items()
    }

    assert [key for key, headline in shown.items() if headline not in text] == []


def test_lines_for_nginx_are_lines_for_nginx() -> None:
    """Text that stands between quotes in a file of nginx has a backslash and an n, and no more."""
    assert 'return 200 "retry: 2000\\n\\n";' in BACK_AT_NGINX
    assert "{{" not in BACK_AT_NGINX + SOCKET_UNIT
