"""The settings of an application: checked at registration, used for the state at the first use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from flask import Flask

from flask_eventstream.app.registry import registry_of, say_once
from flask_eventstream.app.signals import Signals
from flask_eventstream.brokers import find_broker
from flask_eventstream.config import URL_KEYS, Config, unread_keys
from flask_eventstream.state import AppState, make_broker

__all__ = ["check_settings", "state_of"]

#: Where a broker may be named that nobody reads unless the application says so.
_ENVIRONMENT = ("SSE_BROKER_URL", "FLASK_SSE_BROKER_URL")


def check_settings(app: Flask) -> None:
    """Find mistakes at registration; what is set later is read at the first use."""
    config = Config.from_mapping(app.config)
    if config.broker_url is not None:
        find_broker(config.broker_url, key=config.broker_key)
    for warning in unread_keys(app.config):
        say_once(app, warning)


def state_of(app: Flask, stream: Any) -> AppState:
    """The state of one of an application's EventStreams, made at first use.

    Raises:
        InvalidConfig: Lists every mistake.
    """
    states = registry_of(app).states
    state = states.get(stream)
    if state is None:
        # Threads that come at the same time all get the one that was first; none has opened
        # anything yet.
        state = states.setdefault(stream, _make_state(app, stream))
    return state


def _make_state(app: Flask, stream: Any) -> AppState:
    config = stream._configure(app)  # noqa: SLF001  of this package
    for warning in unread_keys(app.config):
        say_once(app, warning)
    # One log for all EventStreams of an application, also in memory.
    brokers = registry_of(app).brokers
    broker = brokers.get(config)
    if broker is None:
        made = make_broker(config, folder=Path(app.instance_path), name=app.name)
        broker = brokers.setdefault(config, made)
    if config.broker_url is None:
        for key in (key for key in URL_KEYS if key in app.config):
            text = "%s is %r, so events are kept in %s, which this machine alone can read"
            say_once(app, text, key, app.config[key], broker.url)
    for key in _ENVIRONMENT:
        if key in os.environ and app.config.get("SSE_BROKER_URL") is None:
            say_once(
                app,
                "%s is set in the environment, and the application does not read it: events are in"
                " %s. Add app.config.from_prefixed_env(), which reads FLASK_SSE_BROKER_URL",
                key,
                broker.url,
            )
    return AppState(config, broker, Signals(app))
