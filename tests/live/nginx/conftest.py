"""nginx, once for all tests here, with every way to its upstreams on a port of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from harness.certificate import make_certificate
from harness.nginx import run_nginx
from harness.ports import free_port
from live.nginx.fronts import VARIANTS, Front
from live.site import run_site

# A stream that is silent for longer is ended by nginx; heartbeats come far more often.
READ_TIMEOUT_S = 2
HEARTBEAT_S = 0.3


@pytest.fixture(scope="session")
def fronts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Front]]:
    """Each variant, with its server behind it."""
    folder = tmp_path_factory.mktemp("nginx")
    pem = make_certificate(folder)
    unix = folder / "app.sock"
    settings: dict[str, Any] = {"SSE_HEARTBEAT_S": HEARTBEAT_S}
    with ExitStack() as stack:

        def start(kind: str, *options: str, starved: bool = False) -> int:
            place = tmp_path_factory.mktemp(kind)
            site = run_site(kind, place, options=options, starved=starved, **settings)
            return stack.enter_context(site).server.port

        upstreams = {
            "gunicorn": start("gunicorn-sync", "--bind", f"unix:{unix}"),
            # The harness asks it for a connection, and gunicorn logs that no header followed.
            "gunicorn-uwsgi": start("gunicorn-sync", "--protocol", "uwsgi", starved=True),
            "uwsgi": start("uwsgi-socket"),
        }
        made = {}
        blocks = [f"upstream kept {{ server 127.0.0.1:{upstreams['gunicorn']}; keepalive 8; }}"]
        for name, variant in VARIANTS.items():
            port, plain = free_port(), free_port()
            blocks.append(
                variant.block(
                    port=port,
                    plain=plain,
                    upstream=upstreams[variant.upstream],
                    unix=unix,
                    pem=pem,
                    read_timeout_s=READ_TIMEOUT_S,
                )
            )
            made[name] = Front(variant, port=port, plain=plain, certificate=pem.certificate)
        stack.enter_context(run_nginx("\n".join(blocks), folder=folder, port=port))
        yield made


@pytest.fixture(params=VARIANTS)
def front(request: pytest.FixtureRequest, fronts: dict[str, Front]) -> Front:
    """One way through nginx, without a stream on it."""
    front = fronts[request.param]
    front.wait_streams(0)
    return front
