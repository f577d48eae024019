"""The rows of the servers: what only one of them tells. The rest is asked through `identify`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from flask_eventstream.servers.wsgi.identify import identify


class Answer:
    """A gunicorn's response, with its settings."""

    def __init__(self, **settings: Any) -> None:
        self.cfg = SimpleNamespace(**settings)

    def start_response(self, *_: Any) -> None: ...


@pytest.mark.parametrize(
    ("worker", "connections"), [("sync", 0), ("gthread", 1004), ("gevent", 1004)]
)
def test_gunicorn_tells_how_many_connections_it_keeps(worker: str, connections: int) -> None:
    """A worker that keeps idle connections says how many it may have, beside its threads."""
    answer = Answer(worker_class_str=worker, worker_connections=1000, threads=4)
    environ = {"gunicorn.socket": object()}

    assert identify(environ, answer.start_response).count_connections() == connections


@pytest.mark.parametrize("environ", [{}, {"werkzeug.socket": None}, {"gunicorn.socket": object()}])
def test_others_tell_nothing(environ: dict[str, Any]) -> None:
    """A server that does not tell, or is hidden by middleware, has none that are known of."""
    assert identify(environ, print).count_connections() == 0
