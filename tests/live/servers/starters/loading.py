"""What the starters share: the application, and the line that the harness waits for."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

__all__ = ["load", "say_where"]


def load(app: str) -> Any:
    """Import "module:attribute" from the working directory, as servers' own programs do."""
    sys.path.insert(0, os.getcwd())  # noqa: PTH109  a path for sys.path is a string
    module, attribute = app.split(":")
    return getattr(importlib.import_module(module), attribute)


def say_where(port: int) -> None:
    """Say which port was taken."""
    print(f"Listening at: http://127.0.0.1:{port}", flush=True)
