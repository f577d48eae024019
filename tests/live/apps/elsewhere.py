"""A small application for a Python that lacks what only POSIX has; see test_elsewhere.py."""

from __future__ import annotations

import os
from typing import Any

from flask import Flask

from flask_eventstream import EventStream
from flask_eventstream.hub import thread
from flask_eventstream.servers.wsgi import identify

__all__ = ["app"]


class Elsewhere:
    """The operating system, by another name, which only our own rooms are told."""

    name = "nt"

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


identify.os = thread.os = Elsewhere()  # type: ignore[assignment]

app = Flask(__name__)
app.config.from_prefixed_env()
EventStream(app)


@app.get("/missing")
def missing() -> str:
    return " ".join(name for name in ("fork", "register_at_fork") if not hasattr(os, name))
