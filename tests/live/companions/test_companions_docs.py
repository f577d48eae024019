"""What the documentation says of companions and versions: whole lists, and a snippet that runs."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

import flask_eventstream
from live.companions.test_flask_versions import FLASKS
from live.servers.matrix import table

DOCS = Path(__file__).parents[3] / "docs"

#: Every extension that apps/shop.py has on.
COMPANIONS = {
    "Flask-SQLAlchemy",
    "Flask-Login",
    "Flask-Session",
    "Flask-Compress",
    "Flask-Talisman",
    "Flask-CORS",
    "Flask-Limiter",
    "sentry-sdk",
    "Werkzeug's `ProxyFix`",
}


@pytest.fixture
def snippet(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The how-to's application, with an `sse` that no other test has put a rule on."""
    monkeypatch.setattr(flask_eventstream, "sse", flask_eventstream.EventStream())
    monkeypatch.setenv("FLASK_SECRET_KEY", "test")
    monkeypatch.setenv("FLASK_SSE_BROKER_URL", "memory://")
    spec = importlib.util.spec_from_file_location("beside", DOCS / "snippets" / "beside.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_versions_of_flask() -> None:
    """The reference has a row for each Flask that is tested, with its Werkzeug."""
    rows = {flask: werkzeug for flask, (werkzeug,) in table("Versions of Flask").items()}

    assert rows == FLASKS


def test_the_companions() -> None:
    """The how-to has a row for each extension that is tested."""
    page = (DOCS / "how-to" / "beside-other-extensions.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1].strip() for line in page.splitlines() if line.startswith("| ")]

    assert set(rows[1:]) == COMPANIONS


@pytest.mark.filterwarnings("ignore:Using the in-memory storage")
def test_the_snippet(snippet: ModuleType) -> None:
    """The how-to's application refuses strangers with 401, as often as they come."""
    client = snippet.app.test_client()

    assert {client.get("/stream").status_code for _ in range(120)} == {401}
