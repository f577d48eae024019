"""One server of each kind for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.servers import KINDS
from live.site import Site, run_site


@pytest.fixture(scope="module", params=KINDS)
def shared_site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A site of each kind of server, shared by the tests of a module."""
    with run_site(request.param, tmp_path_factory.mktemp("site")) as site:
        yield site
