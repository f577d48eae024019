"""`servers.diagnosis`: what a server tells the doctor."""

from __future__ import annotations

import json
import os

from flask_eventstream.access.ticket import HEADER
from flask_eventstream.brokers.memory import MemoryBroker
from flask_eventstream.config import Config
from flask_eventstream.servers.diagnosis import diagnose
from flask_eventstream.state import AppState


def told(environ: dict[str, object], *more: dict[str, object]) -> dict[str, object]:
    state = AppState(
        Config(heartbeat_s=7, stream_lifetime_s=60), MemoryBroker("memory://", retention=None)
    )
    headers: dict[str, str] = {}
    for found in more or ({},):
        diagnose(headers, state, environ, **found)
    said: dict[str, object] = json.loads(headers[HEADER])
    return said


def test_it_says_what_a_stream_meets() -> None:
    """Process, server, broker and times are said."""
    assert told({"SERVER_SOFTWARE": "gunicorn/23", "wsgi.multiprocess": True}) == {
        "pid": os.getpid(),
        "server": "gunicorn/23",
        "several": True,
        "broker": "memory://",
        "heartbeat_s": 7,
        "lifetime_s": 60,
    }


def test_an_asgi_server_does_not_know_of_processes() -> None:
    """What a bridge says of several processes is a guess, and is not passed on."""
    assert told({"wsgi.multiprocess": True, "asgi.scope": {}})["several"] is False


def test_what_is_found_later_is_added() -> None:
    """A later finding stands beside the earlier ones."""
    said = told({}, {"held": "SSE_HANDOFF is off"}, {"threads": 4})

    assert (said["held"], said["threads"]) == ("SSE_HANDOFF is off", 4)
