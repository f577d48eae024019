"""Publishing from anywhere: a script, a task queue, another program. Needs no application."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any

from flask_eventstream.access.grant import check_subject
from flask_eventstream.access.orders import REVOKED_FOR_S, Order, revocation_of
from flask_eventstream.brokers import (
    Broker,
    HasControl,
    HasRecords,
    broker_from_url,
    check_channel,
)
from flask_eventstream.errors import (
    EventTooLarge,
    InvalidChannel,
    InvalidConfig,
    InvalidEvent,
    InvalidGrant,
)
from flask_eventstream.event import Event, Name

__all__ = ["Publisher", "checked_items", "make_event"]


class Publisher:
    """Publishes to the log that a URL names, without an application.

    ::

        Publisher("sqlite:////var/lib/shop/events.db").publish({"order": 7}, channel="orders")

    Threads may share one; after a fork it opens a connection of its own. In a ``with`` block it
    is closed at the block's end.

    Args:
        broker: A URL as in ``SSE_BROKER_URL``, or a broker.
        max_event_bytes: The bound on an event's data, as in ``SSE_MAX_EVENT_BYTES``.
        timeout_s: Seconds after which a publish gives up, as in ``SSE_PUBLISH_TIMEOUT_S``.

    Raises:
        InvalidConfig: The URL names no broker that could be shared, or an argument is of the
            wrong kind.
    """

    def __init__(
        self,
        broker: str | Broker,
        *,
        max_event_bytes: int = 4 * 1024 * 1024,
        timeout_s: float = 5.0,
    ) -> None:
        _check_number("max_event_bytes", max_event_bytes)
        _check_number("timeout_s", timeout_s)
        if isinstance(broker, str):
            broker = broker_from_url(
                broker, retention=None, timeout_s=timeout_s, key="the publisher's URL"
            )
            if not broker.is_shared:
                why = "the memory of this process alone: a publisher needs sqlite:///path"
                raise InvalidConfig([f"the publisher's URL is {broker.url!r}, {why}"])
        elif not hasattr(broker, "listen"):
            why = "give it a URL such as sqlite:///path; inside an application use sse.publish"
            raise InvalidConfig([f"a publisher of {type(broker).__name__} reaches nobody: {why}"])
        self._broker = broker
        self._max_event_bytes = max_event_bytes

    def publish(
        self,
        data: Any,
        type: Name | None = None,
        id: Name | None = None,
        retry: int | str | None = None,
        channel: Name | bytes = "sse",
        exclude: Name | None = None,
    ) -> str:
        """Append an event to a channel's log and wake its readers.

        Args:
            data: Text, sent as it is; an `Event`, complete; anything else becomes JSON.
            type: What the page listens for; by default ``message``.
            id: The event's own id, a point to resume from; by default the log's position.
            retry: Milliseconds the client shall wait before it reconnects.
            channel: Who gets it.
            exclude: The client id of a page that does not get it, live or later.

        Returns:
            The event's id.

        Raises:
            InvalidEvent: No event stream could carry it.
            EventTooLarge: The data exceeds the bound.
            InvalidChannel: The channel's name can't be one.
            BrokerUnavailable: It was not appended. Blocks no longer than ``timeout_s``.
        """
        event = self._checked(make_event(data, type, id, retry, exclude))
        return self._broker.publish(check_channel(channel), event)

    def publish_many(
        self,
        items: Iterable[Any],
        channel: Name | bytes = "sse",
        exclude: Name | None = None,
    ) -> list[str]:
        """Publish several events to one channel, in order, cheaper than one by one.

        Args:
            items: Each as the first argument of `publish`.
            channel: Who gets them.
            exclude: As in `publish`.

        Returns:
            Their ids.

        Raises:
            InvalidEvent: One can't be carried, or ``items`` is a single item: none was published.
            BrokerUnavailable: SQLite took none, Redis perhaps the first of them; the text says how
                many. Redis takes them in pieces of 100, and each blocks for ``timeout_s`` at the
                most.
        """
        events = [self._checked(make_event(i, exclude=exclude)) for i in checked_items(items)]
        return self._broker.publish_many(check_channel(channel), events)

    def publish_to(
        self,
        channels: Iterable[Name | bytes],
        data: Any,
        type: Name | None = None,
        id: Name | None = None,
        retry: int | str | None = None,
        exclude: Name | None = None,
    ) -> dict[str, str]:
        """Publish one event to each of several channels, cheaper than one by one.

        Args:
            channels: Who gets it; a name that is there twice counts once.
            data: As in `publish`, and so are ``type``, ``id``, ``retry`` and ``exclude``.

        Returns:
            The event's id in each channel, by its name as text.

        Raises:
            InvalidChannel: A name can't be one, or ``channels`` is a single text: none has it.
            InvalidEvent: No event stream could carry it: none has it.
            BrokerUnavailable: With SQLite no channel has it, with Redis perhaps the first ones; the
                text says how many. Redis takes them in pieces of 100, and each blocks for
                ``timeout_s`` at the most.
        """
        names = checked_channels(channels)
        event = self._checked(make_event(data, type, id, retry, exclude))
        return dict(zip(names, self._broker.publish_to(names, event), strict=True))

    def _checked(self, event: Event) -> Event:
        if event.size_bytes > self._max_event_bytes:
            raise EventTooLarge(
                event.data, size_bytes=event.size_bytes, limit_bytes=self._max_event_bytes
            )
        return event

    def end(self, channel: Name | bytes) -> None:
        """End a channel: its readers get ``stream-end``, and a reconnect is told to stop.

        An event published later opens the channel again.

        Raises:
            InvalidChannel: The channel's name can't be one.
            BrokerUnavailable: It was not ended.
        """
        self._broker.end(check_channel(channel))

    def disconnect(
        self, channel: Name | bytes | None = None, subject: str | int | None = None
    ) -> None:
        """End the streams of a channel, of a subject, or of a subject on a channel, everywhere.

        Their readers come back within a second and are asked again whether they may. Streams on
        whatever process and machine end within a second, or, where a process does not reach the
        broker now, within a second of the moment when it does.

        Args:
            channel: Streams that read it, alone or among others.
            subject: Streams whose rule, link or view said that this subject reads them.

        Raises:
            ValueError: Neither was given: nobody means everybody.
            InvalidChannel: The channel's name can't be one.
            InvalidGrant: The subject can't be one.
            BrokerUnavailable: It was not ordered, or nobody knows. It may be done again.
        """
        subject = check_subject(subject)
        if channel is None and subject is None:
            why = "disconnect needs a channel, a subject, or both, and both are None"
            raise ValueError(f"{why}: a reader who is not logged in has no subject")
        order = Order(None if channel is None else check_channel(channel), subject)
        if not isinstance(self._broker, HasControl):
            raise _unable(self._broker, "control")
        self._broker.control(order.encode())

    def revoke(self, subject: str | int) -> None:
        """`disconnect` a subject, and void the grants (links) that were made for it until now.

        Lasts for 90 days, and no grant is good for longer.

        Raises:
            InvalidGrant: The subject can't be one.
            BrokerUnavailable: Nobody knows whether all of it was done. It may be done again.
        """
        name = check_subject(subject)
        if name is None:
            raise InvalidGrant("subject", None, "is missing: name whose grants shall be void")
        if not isinstance(self._broker, HasRecords):
            raise _unable(self._broker, "remember and recall")
        # In this order: who comes back must find the record.
        self._broker.remember(revocation_of(name), repr(time.time()), for_s=REVOKED_FOR_S)
        self.disconnect(subject=name)

    def close(self) -> None:
        """Free the broker's connections. Safe to repeat; the next publish opens others."""
        self._broker.close()

    def __enter__(self) -> Publisher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def _unable(broker: Broker, lacks: str) -> TypeError:
    return TypeError(f"a broker of {type(broker).__name__} can't do that: it lacks {lacks}")


def make_event(
    data: Any, type: Any = None, id: Any = None, retry: Any = None, exclude: Any = None
) -> Event:
    """The event of `Publisher.publish`'s arguments.

    Raises:
        InvalidEvent: No event stream could carry it.
    """
    if not isinstance(data, Event):
        return Event(data, type, id, retry, exclude)
    return data if exclude is None else data.excluding(exclude)


def checked_items(items: Iterable[Any]) -> Iterable[Any]:
    """The items of `Publisher.publish_many`.

    Raises:
        InvalidEvent: They are one text, dictionary or event. Nobody wants its letters or keys.
    """
    if isinstance(items, (str, bytes, bytearray, memoryview, Mapping, Event)):
        why = "is one event, and publish_many takes several: use publish, or put it into a list"
        raise InvalidEvent("items", items, why)
    return items


def checked_channels(channels: Iterable[Name | bytes]) -> list[str]:
    """The channels of `Publisher.publish_to` as text, each once.

    Raises:
        InvalidChannel: One can't be one, or they are a single text. Nobody wants its letters.
    """
    if isinstance(channels, (str, bytes)):
        why = "is one channel, and publish_to takes several: use publish, or put it into a list"
        raise InvalidChannel(channels, why)
    return list(dict.fromkeys(map(check_channel, channels)))


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise InvalidConfig([f"a publisher's {name} is {value!r}, and must be a number above 0"])
