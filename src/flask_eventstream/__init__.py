"""Flask-EventStream: server push for Flask over Server-Sent Events.

::

    from flask import Flask
    from flask_eventstream import sse

    app = Flask(__name__)
    app.register_blueprint(sse, url_prefix="/stream")

    @app.post("/hello")
    def hello():
        sse.publish({"message": "Hello!"}, type="greeting")
        return "sent"

Every page with ``new EventSource("/stream")`` gets it, in order, once, also after it was away.
"""

from typing import TYPE_CHECKING

from flask_eventstream.access.grant import Grant
from flask_eventstream.app.compat import Message, ServerSentEventsBlueprint, send_event, sse
from flask_eventstream.app.extension import EventStream
from flask_eventstream.app.signals import stream_ended, stream_opened
from flask_eventstream.errors import (
    BrokerUnavailable,
    EventStreamError,
    EventTooLarge,
    InvalidChannel,
    InvalidConfig,
    InvalidEvent,
    InvalidGrant,
)
from flask_eventstream.event import Event
from flask_eventstream.hub.hub import Stats
from flask_eventstream.presence.census import Readers
from flask_eventstream.publisher import Publisher

__all__ = [
    "BrokerUnavailable",
    "Event",
    "EventStream",
    "EventStreamError",
    "EventTooLarge",
    "Grant",
    "InvalidChannel",
    "InvalidConfig",
    "InvalidEvent",
    "InvalidGrant",
    "Message",
    "Publisher",
    "Readers",
    "ServerSentEventsBlueprint",
    "Stats",
    "send_event",
    "sse",
    "stream_ended",
    "stream_opened",
]

__version__: str
"""The version of what is installed."""

if not TYPE_CHECKING:  # or type checkers would believe in every name

    def __getattr__(name: str) -> str:
        if name != "__version__":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib.metadata import version  # noqa: PLC0415  slow, and seldom wanted

        return version("flask-eventstream")
