"""What a server says of itself to a good ticket, as far as it could be true.

Who answers may be anybody: each value has a type and bounds, and what does not fit is not said.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["read_told"]

#: Our own servers say a few hundred bytes. JSON that is nested deeply exhausts the stack.
_MAX_BYTES = 8192

_TEXTS = ("server", "broker", "held", "sent_away")
_SWITCHES = ("several", "uvloop")

#: Numbers, each with its least and its most.
_NUMBERS: dict[str, tuple[float, float]] = {
    "pid": (1, 1 << 32),
    "threads": (0, 1e6),
    "heartbeat_s": (0.001, 3600),
    "lifetime_s": (0, 1e9),
}
_WHOLE = ("pid", "threads")


def read_told(header: str) -> dict[str, Any]:
    """The values in the response's header; empty where there is none, or another's."""
    if len(header) > _MAX_BYTES:
        return {}
    try:
        said = json.loads(header)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(said, dict):
        return {}
    return {name: value for name, value in said.items() if _may_be(name, value)}


def _may_be(name: str, value: object) -> bool:
    if name in _TEXTS:
        return isinstance(value, str)
    if name in _SWITCHES:
        return isinstance(value, bool)
    if name not in _NUMBERS or isinstance(value, bool):
        return False
    least, most = _NUMBERS[name]
    kinds = (int,) if name in _WHOLE else (int, float)
    return isinstance(value, kinds) and least <= value <= most
