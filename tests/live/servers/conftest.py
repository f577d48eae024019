"""One server of each kind for the tests of a module, or one for a test that ends it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from live.servers.deployed import SNIPPETS
from live.servers.kinds import HANDED_OFF, Kind
from live.site import Site, run_site


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
def launch(launch: Callable[..., Site]) -> Callable[..., Site]:
    """As the one of all tests, for a `Kind` with options and variables of its own."""

    def launch_kind(kind: Kind, **more: Any) -> Site:
        options = [*kind.options, *more.pop("options", ())]
        return launch(kind.kind, options=options, env=kind.env, **more)

    return launch_kind


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a deployed application lies, as short as a Unix socket's path must be."""
    shutil.copy(SNIPPETS / "hello.py", tmp_path)
    return tmp_path
