"""The names of the older extensions: flask-sse 1.0 (singingwolfboy), its ancestor (DazWorrall).

A program that used either changes its import line and goes on. New programs need nothing of this.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flask import Blueprint
from flask.json import dumps

from flask_eventstream.app.extension import EventStream, sse
from flask_eventstream.event import Event
from flask_eventstream.hub.tail import read_entries

__all__ = ["Message", "ServerSentEventsBlueprint", "send_event"]


class Message:
    """An event as flask-sse 1.0 had it; its fields are validated when it is sent."""

    def __init__(
        self,
        data: Any,
        type: str | None = None,
        id: Any = None,
        retry: int | None = None,
    ) -> None:
        self.data = data
        self.type = type
        self.id = id
        self.retry = retry

    def to_dict(self) -> dict[str, Any]:
        """The data, and of the other fields those that are set."""
        optional = {"type": self.type, "id": self.id, "retry": self.retry}
        return {"data": self.data} | {name: value for name, value in optional.items() if value}

    def __str__(self) -> str:
        """The event on the wire."""
        text = self.data if isinstance(self.data, str) else dumps(self.data)
        return Event(text, self.type, self.id, self.retry or None).encode().decode()

    def __repr__(self) -> str:
        extras = {"type": self.type, "id": self.id, "retry": self.retry}
        shown = [repr(self.data), *(f"{name}={value!r}" for name, value in extras.items() if value)]
        return f"{type(self).__name__}({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]  # its fields may be changed


class ServerSentEventsBlueprint(EventStream):
    """flask-sse's class: an `EventStream` without a route of its own.

    ::

        events = ServerSentEventsBlueprint("events", __name__)
        events.add_url_rule("", endpoint="stream", view_func=events.stream)
    """

    def __init__(self, name: str, import_name: str, **options: Any) -> None:
        Blueprint.__init__(self, name, import_name, **options)
        self._begin()

    def messages(self, channel: str = "sse") -> Iterator[Message]:
        """Every event of a channel from now on. Blocks the calling thread."""
        for entry in read_entries(self._state().broker, [channel]):
            event = entry.event
            if event is not None:
                yield Message(event.data, event.type, event.id or entry.position, event.retry)


def send_event(event_name: str | None, data: Any, channel: str = "sse") -> None:
    """Publish an event, with the older extension's order of arguments."""
    sse.publish(data, type=event_name, channel=channel)
