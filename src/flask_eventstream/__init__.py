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

from flask_eventstream.app.compat import Message, ServerSentEventsBlueprint, send_event
from flask_eventstream.app.extension import EventStream, sse
from flask_eventstream.errors import (
    BrokerUnavailable,
    EventStreamError,
    EventTooLarge,
    InvalidChannel,
    InvalidConfig,
    InvalidEvent,
)
from flask_eventstream.event import Event
from flask_eventstream.publisher import Publisher

__all__ = [
    "BrokerUnavailable",
    "Event",
    "EventStream",
    "EventStreamError",
    "EventTooLarge",
    "InvalidChannel",
    "InvalidConfig",
    "InvalidEvent",
    "Message",
    "Publisher",
    "ServerSentEventsBlueprint",
    "send_event",
    "sse",
]
