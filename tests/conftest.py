"""Fixtures that every test file may use."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from harness import servers

# No deadline per example: a busy machine is not a bug. Derandomized: the same commit gives the
# same result; looking for new examples is a fuzzer's work, not this suite's.
settings.register_profile("suite", deadline=None, derandomize=True, database=None)
settings.load_profile("suite")


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., servers.Server]]:
    """Start servers that end with the test: `serve(kind, app, ...)` as in `harness.servers.serve`.

    The working directory is the test's own unless `cwd` says otherwise. pytest shows the servers'
    logs when the test fails.
    """
    with contextlib.ExitStack() as stack:

        def start(kind: str, app: str, **more: Any) -> servers.Server:
            server = stack.enter_context(servers.serve(kind, app, **{"cwd": tmp_path, **more}))
            stack.callback(lambda: print(f"--- log of {server!r}\n{server.log()}"))
            return server

        yield start
