"""One server of each kind for the tests of a module, or one for a test that ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from live.site import Site, run_site
from servers.kinds import HANDED_OFF, Kind


@pytest.fixture(scope="module", params=HANDED_OFF)
def shared_site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A site on each server, shared by the tests of a module."""
    kind = HANDED_OFF[request.param]
    folder = tmp_path_factory.mktemp("site")
    with run_site(kind.kind, folder, options=kind.options, env=kind.env) as site:
        yield site


@pytest.fixture
def site(shared_site: Site) -> Iterator[Site]:
    """The shared site without a stream on it, and with a clean log after the test."""
    shared_site.wait_streams(0)
    yield shared_site
    shared_site.assert_no_trouble()


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Starts a site that ends with the test: `launch(kind, …)`."""
    with ExitStack() as stack:

        def launch(kind: Kind, **more: Any) -> Site:
            options = [*kind.options, *more.pop("options", ())]
            site = run_site(kind.kind, tmp_path, options=options, env=kind.env, **more)
            return stack.enter_context(site)

        yield launch


@pytest.fixture
def channel() -> str:
    """A channel that no other test uses."""
    return f"c-{uuid4().hex}"
