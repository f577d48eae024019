"""The door for ASGI servers: ``from flask_eventstream.asgi import EventStreamASGI``."""

from flask_eventstream.servers.asgi.app import EventStreamASGI

__all__ = ["EventStreamASGI"]
