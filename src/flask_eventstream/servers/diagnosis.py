"""What a server tells the doctor, in a header of the head that only a ticket brings out."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, MutableMapping
from typing import Any

from flask_eventstream.access.ticket import HEADER
from flask_eventstream.state import AppState

__all__ = ["diagnose"]


def diagnose(
    headers: MutableMapping[str, str],
    state: AppState,
    environ: Mapping[str, Any],
    **found: object,
) -> None:
    """Say in the response's headers what its stream meets in this process; adds to what was said.

    For a client that has shown a ticket, and for no other.
    """
    config = state.config
    said = json.loads(headers.get(HEADER, "{}")) or {
        "pid": os.getpid(),
        "server": environ.get("SERVER_SOFTWARE", ""),
        # Under ASGI the wrapper does not know, and says "several" to be safe.
        "several": bool(environ.get("wsgi.multiprocess")) and "asgi.scope" not in environ,
        "broker": state.broker.url,
        "heartbeat_s": config.heartbeat_s,
        "lifetime_s": config.stream_lifetime_s,
    }
    headers[HEADER] = json.dumps({**said, **found})
