"""A running ASGI server with the ASGI tests' application in it."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from live.site import run_site

__all__ = ["APPS", "run_asgi_site"]

APPS = Path(__file__).parent / "apps"

run_asgi_site = partial(run_site, app="served:asgi", apps=APPS)
"""As `run_site`, for one of `ASGI_KINDS`; `app` is a module of `APPS` and an attribute in it."""
