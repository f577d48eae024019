"""The same application behind bridges from ASGI that are not ours."""

from __future__ import annotations

import warnings

from a2wsgi import WSGIMiddleware
from plain import app
from starlette.applications import Starlette
from starlette.routing import Mount

with warnings.catch_warnings(action="ignore"):
    from starlette.middleware import wsgi

__all__ = ["a2wsgi", "starlette"]

a2wsgi = WSGIMiddleware(app)
starlette = Starlette(routes=[Mount("/", wsgi.WSGIMiddleware(app))])
