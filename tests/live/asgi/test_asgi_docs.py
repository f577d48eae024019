"""The snippets of the how-to page about ASGI servers run as they are shown."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.servers import serve
from harness.streams import Reader, get, post
from harness.waiting import wait_until

SNIPPETS = Path(__file__).parents[3] / "docs" / "snippets"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the README's application as the shop, and the snippets."""
    shutil.copy(SNIPPETS / "hello.py", tmp_path / "shop.py")
    for name in ("asgi.py", "asgi_beside.py"):
        shutil.copy(SNIPPETS / name, tmp_path / f"shop_{name}")
    return tmp_path


def test_the_wrapped_app_runs(folder: Path) -> None:
    """The wrapped application streams what its view publishes."""
    with (
        serve("uvicorn", "shop_asgi:asgi", cwd=folder) as server,
        Reader(f"{server.url}/stream") as reader,
    ):
        assert post(f"{server.url}/hello").status == 200
        assert reader.next_event()["type"] == "greeting"


def test_the_stream_beside_starlette_runs(folder: Path) -> None:
    """Starlette answers for its own route, and the stream opens among them."""
    with (
        serve("uvicorn", "shop_asgi_beside:asgi", cwd=folder) as server,
        Reader(f"{server.url}/events") as reader,
    ):
        assert get(f"{server.url}/hello").text == "Hello!\n"
        wait_until(lambda: reader.comments, what="an open stream")
