"""The names of the older extensions: flask-sse 1.0 (singingwolfboy), its ancestor (DazWorrall).

A program that used either changes its import line and goes on. New programs need nothing of this.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from flask import Blueprint, Flask, Response, request, stream_with_context
from flask.json import dumps

from flask_eventstream.app.asked import address_of
from flask_eventstream.app.extension import EventStream
from flask_eventstream.app.registration import Registration
from flask_eventstream.app.rights import Right
from flask_eventstream.brokers import Broker, HasClient, check_channel
from flask_eventstream.brokers.redis.client_url import url_of_client
from flask_eventstream.config import Config
from flask_eventstream.errors import InvalidConfig
from flask_eventstream.event import Event, Name
from flask_eventstream.hub.tail import Gap, read_entries
from flask_eventstream.log.entries import Kind

__all__ = ["Message", "ServerSentEventsBlueprint", "send_event", "sse"]

_LOGGER = logging.getLogger("flask_eventstream")

#: Behind a field's name, where the value does not begin with one of its own.
_NEEDLESS_SPACE = re.compile(r"^(event|data|id|retry): (?! )", re.MULTILINE)


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
        """The event on the wire, as flask-sse wrote it: a space is there where it must be."""
        text = self.data if isinstance(self.data, str) else dumps(self.data)
        wire = Message(text, self.type, self.id, self.retry).to_event().encode().decode()
        return _NEEDLESS_SPACE.sub(r"\1:", wire)

    def to_event(self) -> Event:
        """The event that it is; as ever, 0 for a field is none.

        Raises:
            InvalidEvent: No event stream could carry it.
        """
        return Event(self.data, self.type or None, self.id or None, self.retry or None)

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

    A subclass may override what flask-sse called: `messages`, `redis`, `stream`.
    """

    def __init__(self, name: str, import_name: str, **options: Any) -> None:
        Blueprint.__init__(self, name, import_name, **options)
        self._begin()

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuse what could never work.

        Raises:
            TypeError: Names the class, and what to do.
        """
        super().__init_subclass__(**options)
        if inspect.iscoroutinefunction(cls.messages) or inspect.isasyncgenfunction(cls.messages):
            raise TypeError(
                f"{cls.__name__}.messages is async, and streams run it on a thread: write it as a"
                " generator without async"
            )

    @property
    def redis(self) -> Any:
        """redis-py's client of the server that has the log, the same one each time.

        A subclass whose `redis` is another one has its log there, unless ``SSE_BROKER_URL`` is set.

        Raises:
            InvalidConfig: The log is in no Redis.
        """
        broker = self._state().broker
        if isinstance(broker, HasClient):
            return broker.client()
        why = f"{self.name}.redis is of a log in Redis, and this one is {broker.url}"
        raise InvalidConfig([f"{why}: set SSE_BROKER_URL to redis://HOST, or make a client"])

    def messages(self, channel: Name | bytes = "sse") -> Iterator[Message]:
        """Every event of a channel from now on, as it was published.

        Blocks the calling thread or greenlet between events. In a subclass it may be overridden, to
        filter or to add: its streams then read it, each on a thread of its own, and who comes back
        gets nothing of what it missed. A channel, or a guard, costs no thread.
        """
        # Which application is meant is asked here: the thread that iterates may know of none.
        return _messages(self._state().broker, check_channel(channel))

    def _open(self, app: Flask, right: Right, start: str | None) -> Response:
        if not self._overrides("messages"):
            return super()._open(app, right, start)
        # One, as in flask-sse: messages() can't tell of which channel they are.
        first = next(filter(None, request.args.getlist("channel")), None)
        channel = first if first in right.channels else right.channels[0]
        state = self._state(app)
        state.say_once(
            "%s.messages is overridden, so each of its streams holds a thread, and readers who come"
            " back get nothing of what they missed; publish to a channel of its own instead",
            type(self).__name__,
        )
        return self._respond(
            app,
            stream_with_context(self._events(channel)),
            right.reader(address_of(app, state, request)),
        )

    def _events(self, channel: str) -> Iterator[Event]:
        messages: Iterable[Any] = self.messages(channel=channel)
        for message in messages:
            if not isinstance(message, Message):
                kind = type(message).__name__
                raise TypeError(f"{type(self).__name__}.messages gave a {kind}, not a Message")
            yield message.to_event()

    def _configure(self, app: Flask) -> Config:
        config = super()._configure(app)
        is_said = config.broker_url is not None and config.broker_key == "SSE_BROKER_URL"
        if is_said or not self._overrides("redis"):
            return config
        key = f"{type(self).__name__}.redis"
        with app.app_context():
            url = url_of_client(self.redis, key=key)
        return replace(config, broker_url=url, broker_key=key)

    def _overrides(self, name: str) -> bool:
        own = inspect.getattr_static(self, name)
        return own is not inspect.getattr_static(ServerSentEventsBlueprint, name)


sse = ServerSentEventsBlueprint("sse", __name__, url_prefix="/stream")
sse.add_url_rule("", endpoint="stream", view_func=sse.stream)
Registration._ready_made = sse  # noqa: SLF001  the one name of flask-sse that everybody imports


def _messages(broker: Broker, channel: str) -> Iterator[Message]:
    for entry in read_entries(broker, [channel]):
        if isinstance(entry, Gap):
            _LOGGER.warning("Something is gone of what messages(%r) reads", channel)
            continue
        event = entry.event
        if entry.kind is Kind.EVENT and event is not None:
            data = json.loads(event.data) if event.is_json else event.data
            yield Message(data, event.type, event.id, event.retry)


def send_event(event_name: str | None, data: Any, channel: Name | bytes = "sse") -> None:
    """Publish an event, with the older extension's order of arguments."""
    sse.publish(data, type=event_name, channel=channel)
