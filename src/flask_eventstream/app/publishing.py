"""The part of an `EventStream` that publishes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flask import Flask, request

from flask_eventstream.app.asked import page_of
from flask_eventstream.app.registration import Registration
from flask_eventstream.event import Event, Name, client_id_fault
from flask_eventstream.publisher import checked_items, make_event

__all__ = ["Publishing", "event_in"]


class Publishing(Registration):
    """What an `EventStream` says to its readers."""

    def publish(
        self,
        data: Any,
        type: Name | None = None,
        id: Name | None = None,
        retry: int | str | None = None,
        channel: Name | bytes = "sse",
        exclude: Name | None = None,
    ) -> str:
        """Publish an event to every reader of a channel. Any thread of any process.

        Args:
            data: Text, sent as it is; an `Event`, complete; anything else becomes JSON by the
                app's JSON provider.
            type: What the page listens for with ``addEventListener``; by default ``message``.
            id: The event's own id, a point to resume from; by default the log's position.
            retry: Milliseconds the client shall wait before it reconnects, from now on.
            channel: Who gets it.
            exclude: The client id of a page that does not get it, live or later, such as the one
                that caused it: `client_id`.

        Returns:
            The event's id. The event is in the log when this returns.

        Raises:
            InvalidEvent: No event stream could carry it; nothing was published.
            EventTooLarge: The data exceeds ``SSE_MAX_EVENT_BYTES``.
            InvalidChannel: The channel's name can't be one.
            BrokerUnavailable: The broker did not take it. Blocks for ``SSE_PUBLISH_TIMEOUT_S`` at
                the most.
            RuntimeError: There is no application context, and not exactly one application.
        """
        app = self._app()
        event = event_in(app, data, type, id, retry, exclude)
        return self._state(app).publisher.publish(event, channel=channel)

    def publish_many(
        self,
        items: Iterable[Any],
        channel: Name | bytes = "sse",
        exclude: Name | None = None,
    ) -> list[str]:
        """Publish several events to one channel, in order, cheaper than one by one.

        Each item is what `publish` takes as data, or an `Event`. Returns their ids. Raises as
        `publish` does, also where ``items`` is a single text, dictionary or event: before anything
        was published if an item is wrong; if the broker fails on the way, SQLite took none of them,
        Redis perhaps some.
        """
        app = self._app()
        events = [event_in(app, item, exclude=exclude) for item in checked_items(items)]
        return self._state(app).publisher.publish_many(events, channel=channel)

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

        Arguments are those of `publish`; a channel that is there twice counts once. Returns the
        event's id in each channel, by its name. Raises as `publish` does, also where ``channels``
        is a single text: before anything was published if a name or the event is wrong; if the
        broker fails on the way, with SQLite no channel has it, with Redis perhaps some have.
        """
        app = self._app()
        event = event_in(app, data, type, id, retry, exclude)
        return self._state(app).publisher.publish_to(channels, event)

    def client_id(self) -> str | None:
        """What the page calls itself that makes this request, or ``None``: for ``exclude``.

        A page makes a name up, opens its stream with ``?client=NAME``, and sends the header
        ``X-SSE-Client: NAME`` with its own requests. What can't be one is none.

        Raises:
            RuntimeError: There is no request.
        """
        named = page_of(request)
        return named if named and client_id_fault(named) is None else None

    def end(self, channel: Name | bytes) -> None:
        """End a channel: its readers get ``stream-end``, and a reconnect gets 204.

        An event published later opens the channel again.

        Raises:
            InvalidChannel: The channel's name can't be one.
            BrokerUnavailable: It was not ended.
        """
        self._state().publisher.end(channel)

    def disconnect(
        self, channel: Name | bytes | None = None, subject: str | int | None = None
    ) -> None:
        """End the streams of a channel, of a subject, or of a subject on a channel, everywhere.

        Their readers come back within a second and are asked again whether they may: for a logout,
        or a right that was taken away. As `Publisher.disconnect`, which says what it raises.
        """
        self._state().publisher.disconnect(channel, subject)

    def revoke(self, subject: str | int) -> None:
        """`disconnect` a subject, and void the grants (links) that were made for it until now.

        As `Publisher.revoke`, which says what it raises.
        """
        self._state().publisher.revoke(subject)


def event_in(
    app: Flask,
    data: Any,
    type: Any = None,
    id: Any = None,
    retry: Any = None,
    exclude: Any = None,
) -> Event:
    """What was given as an event, made JSON by the application's own provider."""
    if isinstance(data, (str, Event)):
        return make_event(data, type, id, retry, exclude)
    with app.app_context():
        return make_event(data, type, id, retry, exclude)
