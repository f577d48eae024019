"""Fixtures that every test file may use."""

from __future__ import annotations

import _thread
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import settings

from harness import servers
from live.site import Site, run_site

# No deadline per example: a busy machine is not a bug. Derandomized: the same commit gives the
# same result; looking for new examples is a fuzzer's work, not this suite's.
settings.register_profile("suite", deadline=None, derandomize=True, database=None)
settings.load_profile("suite")


def _trace_every_thread() -> None:
    """Let coverage see the threads that `process` starts: it knows only those of `threading`."""
    start = _thread.start_new_thread

    def start_traced(function: Callable[..., object], arguments: tuple[object, ...]) -> int:
        def run() -> None:
            sys.settrace(threading.gettrace())
            function(*arguments)

        return start(run, ())

    _thread.start_new_thread = start_traced  # type: ignore[assignment]


if "COVERAGE_THREADS" in os.environ:  # `make coverage` says so
    _trace_every_thread()


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


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Start sites that end with the test, all with the same log of events: `launch(kind, ...)`.

    The arguments are those of `live.site.run_site`.
    """
    with contextlib.ExitStack() as stack:

        def start(kind: str, **more: Any) -> Site:
            return stack.enter_context(run_site(kind, tmp_path, **more))

        yield start


@pytest.fixture
def site(shared_site: Site) -> Iterator[Site]:
    """The shared site without a stream on it, and with a clean log after the test.

    `shared_site` is for each folder of tests to say, in its conftest.py or its modules.
    """
    shared_site.wait_streams(0)
    yield shared_site
    shared_site.assert_no_trouble()


@pytest.fixture
def channel() -> str:
    """A channel that no other test uses."""
    return f"c-{uuid4().hex}"
