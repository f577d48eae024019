"""What of ours lies with an application: its EventStreams, their state, its guards, what was said.

All of it goes with the application, so that a process may make and forget many of them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

from flask import Flask

from flask_eventstream.access.rules import ChannelRule, Rules
from flask_eventstream.app.guards import Guard
from flask_eventstream.brokers import Broker
from flask_eventstream.config import Config
from flask_eventstream.state import AppState

__all__ = ["Registry", "registry_of", "say_once"]

_LOGGER = logging.getLogger("flask_eventstream")

#: Where it lies in ``app.extensions``.
_KEY = "flask_eventstream"


@dataclass(slots=True, eq=False)
class Registry:
    """What of ours lies with one application. Any thread may use it."""

    streams: list[Any] = field(default_factory=list)
    """The EventStreams that are registered on it, in their order."""
    endpoints: dict[object, str] = field(default_factory=dict)
    """The endpoint of each one's stream, as ``url_for`` wants it."""
    states: dict[object, AppState] = field(default_factory=dict)
    """Of those EventStreams that were used already."""
    brokers: dict[Config, Broker] = field(default_factory=dict)
    """For each configuration that was met, usually one, the broker that its states share."""
    guards: dict[object, list[Guard]] = field(default_factory=dict)
    """Guards that belong to this application alone; see `Guards`."""
    rules: dict[object, dict[str, ChannelRule]] = field(default_factory=dict)
    """Rules of channels that belong to this application alone, by pattern; see `RuleBook`."""
    matching: Rules | None = None
    """All rules that count here, as they were when somebody asked last."""
    said: set[str] = field(default_factory=set)
    """What was logged once."""


def registry_of(app: Flask) -> Registry:
    """What lies with ``app``."""
    registry: Registry | None = app.extensions.get(_KEY)
    if registry is None:
        # One for all threads that come at the same time.
        registry = app.extensions.setdefault(_KEY, Registry())
    return registry


def say_once(app: Flask, text: str, *details: object) -> None:
    """Log a warning, once per application and process."""
    said = registry_of(app).said
    if text not in said:
        said.add(text)
        _LOGGER.warning(text, *details)
