"""A running ASGI server with the ASGI tests' application in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from flask_eventstream import Publisher
from harness.asgi_servers import serve_asgi
from live.site import Site

__all__ = ["run_asgi_site"]

APPS = Path(__file__).parent / "apps"

# What a server says of an application that broke the rules of ASGI, beside what no log may show.
BROKEN_RULES = (
    "without completing response",
    "ASGI callable",
    "Unexpected ASGI",
    "Unexpected message",
)


@contextmanager
def run_asgi_site(
    kind: str,
    folder: Path,
    *,
    app: str = "served:asgi",
    options: Sequence[str] = (),
    port: int = 0,
    **settings: object,
) -> Iterator[Site]:
    """Run a server whose log is free of trouble up to its end, or the test fails.

    Args:
        kind: one of `ASGI_KINDS`.
        folder: where the log of events and the database lie.
        app: a module of `APPS` and an attribute in it.
        options: command line arguments for the server.
        port: to come back where an earlier site was.
        settings: the application's configuration.
    """
    broker_url = f"sqlite:///{folder / 'events.db'}"
    given = {
        "SSE_BROKER_URL": broker_url,
        "SSE_RETRY_MS": 500,
        "SQLALCHEMY_DATABASE_URI": f"sqlite:///{folder / 'shop.db'}",
        **settings,
    }
    env = {f"FLASK_{key}": str(value) for key, value in given.items()}
    with serve_asgi(kind, app, cwd=APPS, env=env, options=options, port=port) as server:
        site = Site(server, broker_url, Publisher(broker_url))
        try:
            yield site
            server.stop()
        finally:
            print(f"--- log of {server!r}\n{server.log()}")
        site.assert_no_trouble()
        log = server.log()
        assert [words for words in BROKEN_RULES if words in log] == [], log
