"""ASGI servers for the tests: one for a whole module, or one for a test that ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest

from harness.asgi_servers import ASGI_KINDS
from live.asgi.asgi_site import APPS, run_asgi_site
from live.site import Site


@pytest.fixture(scope="module", params=ASGI_KINDS)
def shared_site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A site on each server, shared by the tests of a module."""
    with run_asgi_site(request.param, tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
def launch(launch: Callable[..., Site]) -> Callable[..., Site]:
    """As the one of all tests, with the ASGI tests' application."""
    return partial(launch, app="served:asgi", apps=APPS)
