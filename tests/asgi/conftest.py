"""ASGI servers for the tests: one for a whole module, or one for a test that ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from asgi.asgi_site import run_asgi_site
from harness.asgi_servers import ASGI_KINDS
from live.site import Site


@pytest.fixture(scope="module", params=ASGI_KINDS)
def shared_site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A site on each server, shared by the tests of a module."""
    with run_asgi_site(request.param, tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
def site(shared_site: Site) -> Iterator[Site]:
    """The shared site without a stream on it, and with a clean log after the test."""
    shared_site.wait_streams(0)
    yield shared_site
    shared_site.assert_no_trouble()


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Starts sites that end with the test: `launch(kind, …)`."""
    with ExitStack() as stack:

        def launch(kind: str, **more: Any) -> Site:
            return stack.enter_context(run_asgi_site(kind, tmp_path, **more))

        yield launch


@pytest.fixture
def channel() -> str:
    """A channel that no other test uses."""
    return f"c-{uuid4().hex}"
