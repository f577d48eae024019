"""Servers with something wrong with them, and a doctor for the test's own process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_eventstream import EventStream, Publisher
from flask_eventstream.doctor.facts import AppFacts, StreamFacts
from flask_eventstream.doctor.findings import examine_app, examine_stream
from flask_eventstream.doctor.probe import Probe
from flask_eventstream.doctor.remedies import Level
from flask_eventstream.doctor.report import Remark
from harness.asgi_servers import ASGI_KINDS
from harness.servers import Server, serve

APPS = Path(__file__).parent / "apps"

# Where something is waited for that will not come. All else comes far sooner.
PATIENCE_S = 2.0


@dataclass(frozen=True, slots=True)
class Visited:
    """What the doctor saw, and says."""

    app: AppFacts
    stream: StreamFacts | None
    remarks: list[Remark]

    @property
    def problems(self) -> list[str]:
        return [each.headline for each in self.remarks if each.level is Level.PROBLEM]

    @property
    def advice(self) -> list[str]:
        return [each.headline for each in self.remarks if each.level is Level.ADVICE]

    @property
    def fine(self) -> list[str]:
        return [each.headline for each in self.remarks if each.level is None]

    @property
    def unknown(self) -> list[str]:
        return [each.headline for each in self.remarks if each.level is Level.UNKNOWN]

    @property
    def only(self) -> Remark:
        """The one problem that there is."""
        (problem,) = [each for each in self.remarks if each.level is Level.PROBLEM]
        return problem


def visit(
    url: str | None = None,
    *,
    broker_url: str,
    key: str | None = None,
    channel: str | None = None,
    headers: dict[str, str] | None = None,
    patience_s: float = Probe.patience_s,
    answer_s: float = Probe.answer_s,
    **settings: Any,
) -> Visited:
    """Do what `flask sse doctor URL` does, for an application with these settings."""
    app = Flask("shop")
    app.config.update({"SSE_BROKER_URL": broker_url, **settings})
    state = EventStream(app)._state(app)
    probe = Probe(
        state.config,
        state.broker,
        state.publisher,
        app="shop:app",
        path="/stream",
        key=key,
        channel=channel,
    )
    probe.patience_s, probe.answer_s = patience_s, answer_s
    try:
        facts = probe.look_at_app()
        remarks = list(examine_app(facts))
        seen = None
        if url is not None:
            seen = probe.look_at_stream(url, headers or {}, print)
            remarks += examine_stream(facts, seen)
    finally:
        state.broker.close()
    print(seen, *remarks, sep="\n")  # for a test that fails
    return Visited(facts, seen, remarks)


@dataclass(frozen=True, slots=True)
class Shop:
    """A running server. Belongs to the test's thread."""

    server: Server
    broker_url: str

    @property
    def url(self) -> str:
        return f"{self.server.url}/stream"

    @property
    def publisher(self) -> Publisher:
        return Publisher(self.broker_url)

    def visit(self, url: str = "", **more: Any) -> Visited:
        """Send the doctor there, with the server's own broker."""
        return visit(url or self.url, **{"broker_url": self.broker_url, **more})


@pytest.fixture(scope="module")
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(scope="module")
def open_shop(stack: ExitStack, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Shop]:
    """Starts servers that end with the module: `open_shop(kind, SSE_HEARTBEAT_S=3)`."""

    def start(
        kind: str,
        *options: str,
        app: str | None = None,
        env: dict[str, str] | None = None,
        **settings: object,
    ) -> Shop:
        folder = tmp_path_factory.mktemp("shop")
        given = {
            "SSE_BROKER_URL": f"sqlite:///{folder / 'events.db'}",
            "SSE_HEARTBEAT_S": 1,
            **settings,
        }
        variables = {f"FLASK_{name}": str(value) for name, value in given.items()} | (env or {})
        name = app or ("shop:asgi" if kind in ASGI_KINDS else "shop:app")
        running = serve(kind, name, cwd=APPS, env=variables, options=options)
        server = stack.enter_context(running)
        stack.callback(lambda: print(f"--- log of {server!r}\n{server.log()}"))
        return Shop(server, str(given["SSE_BROKER_URL"]))

    return start
