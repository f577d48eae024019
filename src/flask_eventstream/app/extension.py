"""EventStream: the Flask extension. A blueprint with one route, and a way to publish."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from flask import Flask, Response, after_this_request, has_request_context
from flask.json import dumps

from flask_eventstream.app.asked import address_of
from flask_eventstream.app.caches import keep_out_of_caches
from flask_eventstream.app.cors import allow_origin
from flask_eventstream.app.linking import Linking
from flask_eventstream.app.protection import Protection, current_request
from flask_eventstream.app.publishing import Publishing, event_in
from flask_eventstream.app.registration import DEFAULT_PREFIX
from flask_eventstream.app.rights import Right, decide
from flask_eventstream.app.views import check_start, event_stream, open_stream
from flask_eventstream.brokers import check_channel
from flask_eventstream.config import Config
from flask_eventstream.event import Event, Name, use_json_dumps
from flask_eventstream.hub.hub import Stats
from flask_eventstream.hub.request import Reader, StreamRequest
from flask_eventstream.presence.census import Readers
from flask_eventstream.servers.pump import check_source, is_framed
from flask_eventstream.servers.wsgi.response import Opening

__all__ = ["EventStream"]

use_json_dumps(dumps)


class EventStream(Protection, Publishing, Linking):
    """Server push for a Flask application.

    Blueprint style, for one application or many::

        app.register_blueprint(sse, url_prefix="/stream")

    Extension style, the same object::

        stream = EventStream(app)               # or EventStream().init_app(app)

    State lies with the application, so that one object serves several, and several objects with
    different names serve one.

    Args:
        app: An application to initialise at once.
        name: The blueprint's name; the endpoint is ``NAME.stream``.
    """

    def __init__(self, app: Flask | None = None, *, name: str = "sse") -> None:
        super().__init__(name, __name__, url_prefix=DEFAULT_PREFIX)
        self._begin()
        self.add_url_rule("", endpoint="stream", view_func=self.stream)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask, url_prefix: str = DEFAULT_PREFIX) -> None:
        """Register on an application, and read its configuration now.

        Args:
            app: The application, configured.
            url_prefix: The stream's address, which may have variables. Empty: ``/``.

        Raises:
            InvalidConfig: Lists every mistake.
            ValueError: The application has a blueprint of this name already.
        """
        app.register_blueprint(self, url_prefix=url_prefix)
        self._state(app)

    def stream(
        self, *channels: Name | bytes, start: str | None = None, **variables: object
    ) -> Response:
        """The view: an event stream of the channels that the query names, or of those given here.

        Also for a route of your own, under any decorator. The guards of `before_request` are asked
        first, and the rules of `channel` for what the query names. **Channels given here** are
        what your view has decided: no rule is asked, and the query's channels are not read::

            @app.get("/orders/stream")
            @login_required
            def orders():
                return sse.stream(f"orders:{current_user.id}", "news")

        Waits a second for the broker at the most.

        Args:
            channels: What the reader gets. None at all: what the query names.
            start: Where a reader begins who shows no id: an id (what `publish` returns), or "now",
                as without it.
            variables: Those in the address, which are for the guards: ``request.view_args``.

        Returns:
            The stream; or what a guard answers; 403 where a rule says no, or none fits; 204 to a
            reader who has seen all channels end; 400 where a channel can't be one. To ``OPTIONS``
            the methods of the route.

        Raises:
            InvalidConfig: Lists every mistake.
            InvalidChannel: Two rules of the application contradict each other.
            InvalidGrant: Two rules took the reader for two different ones.
            TypeError: ``start`` is no text, or a rule returned what is no decision.
            ValueError: ``start`` is empty.
            RuntimeError: The application does not have this object, or there is no request.
        """
        check_start(start)
        app = self._app()
        stream = self._meant(app)
        config = stream._state(app).config  # noqa: SLF001  this class
        after_this_request(functools.partial(allow_origin, config, current_request()))
        right = decide(app, current_request(), stream, chosen=channels)
        if isinstance(right, Right):
            return keep_out_of_caches(stream._open(app, right, start))  # noqa: SLF001  this class
        return keep_out_of_caches(right)

    def _open(self, app: Flask, right: Right, start: str | None) -> Response:
        """The answer to who may read."""
        return open_stream(app, self._state(app), current_request(), right, start=start)

    def _configure(self, app: Flask) -> Config:
        return Config.from_mapping(app.config)

    def response(self, iterable: Iterable[Any]) -> Response:
        """A response that sends what ``iterable`` yields as events, as it yields them.

        Strings are sent as they are, `Event` objects complete, anything else as JSON. The stream
        opens at once, gets heartbeats while the iterable is silent, and ends with it. An
        EventSource then connects again, which calls the view again: let the page close it at an
        event of yours that says so.

        The iterable runs on a **thread of its own** for as long as the client stays, outside any
        request context (``flask.stream_with_context`` gives it one). Events for many readers are
        better published to a channel, which costs no thread. No guard is asked: the view decides.

        Raises:
            TypeError: It is nothing that could be run: text, bytes, a dict, an async generator.
            InvalidConfig: Lists every mistake.
            RuntimeError: The application does not have this object.
        """
        app = self._app()
        state = self._state(app)
        address = address_of(app, state, current_request()) if has_request_context() else None
        return self._respond(app, iterable, Reader(address=address))

    def _respond(self, app: Flask, iterable: Iterable[Any], reader: Reader) -> Response:
        check_source(iterable)
        state = self._state(app)

        def to_event(item: Any) -> Event:
            if isinstance(item, str) and is_framed(item):
                state.say_once(
                    "sse.response got text that is framed already, %r, and frames it again: yield"
                    " the data alone, or an Event",
                    item[:40],
                )
            return event_in(app, item)

        asked = StreamRequest(lifetime_s=state.config.stream_lifetime_s, reader=reader)
        return event_stream(app, Opening(state, asked, source=iterable, to_event=to_event))

    def stats(self) -> Stats:
        """What the streams of this application do in this process. Any thread."""
        return self._state().stats()

    def readers(self, channel: Name | bytes = "sse") -> Readers:
        """How many streams and subjects a channel has, over all processes that share the log.

        Right to about a second, once somebody asks: who asks first in ten minutes waits for a
        second and a half, so that all processes can say what they have. Else it takes one round
        trip to the broker. A process that was killed is counted for half a minute more.

        Raises:
            InvalidChannel: The channel's name can't be one.
            BrokerUnavailable: Nobody knows.
            RuntimeError: There is no application context, and not exactly one application.
        """
        return self._state().census.readers(check_channel(channel))

    def shutdown(self, within_s: float = 1.0) -> bool:
        """End all streams of this application in this process, as at the process's end.

        Its broker's connections are closed, too; the next publish opens others.

        For tests that stop a server of their own (``make_server().shutdown()``). A stream that is
        opened afterwards is served again. Blocks the calling thread for ``within_s`` seconds, and
        as much again, at the most; not to be called on an ASGI server's loop.

        Returns:
            True where all of them were ended, False where the time did not do.
        """
        return self._state().shut_down(within_s)
