"""EventStream: the Flask extension. A blueprint with one route, and a way to publish."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any, ClassVar, TypeVar

from flask import (
    Blueprint,
    Flask,
    Request,
    Response,
    current_app,
    has_app_context,
    has_request_context,
    request,
)
from flask.json import dumps

from flask_eventstream.app.guards import Guard, Guards, ask
from flask_eventstream.app.registry import registry_of, say_once
from flask_eventstream.app.settings import check_settings, state_of
from flask_eventstream.app.views import (
    address_of,
    event_stream,
    keep_out_of_caches,
    open_stream,
)
from flask_eventstream.config import Config
from flask_eventstream.event import Event, Name, use_json_dumps
from flask_eventstream.hub.hub import Stats
from flask_eventstream.hub.request import Reader, StreamRequest
from flask_eventstream.publisher import checked_items, make_event
from flask_eventstream.servers.pump import check_source, is_framed
from flask_eventstream.servers.wsgi.response import Opening
from flask_eventstream.state import AppState

__all__ = ["EventStream"]

_Function = TypeVar("_Function", bound=Callable[[], Any])

_DEFAULT_PREFIX = "/stream"

use_json_dumps(dumps)


class EventStream(Blueprint):
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

    #: What ``from flask_eventstream import sse`` gives; made by app/compat.py, as it is one of
    #: flask-sse's class.
    _ready_made: ClassVar[EventStream | None] = None

    def __init__(self, app: Flask | None = None, *, name: str = "sse") -> None:
        super().__init__(name, __name__, url_prefix=_DEFAULT_PREFIX)
        self._begin()
        self.add_url_rule("", endpoint="stream", view_func=self.stream)
        if app is not None:
            self.init_app(app)

    def _begin(self) -> None:
        self._guards = Guards()
        self._apps: weakref.WeakSet[Flask] = weakref.WeakSet()
        super().before_request(self._ask_guards)
        super().after_request(self._answered)

    def init_app(self, app: Flask, url_prefix: str = _DEFAULT_PREFIX) -> None:
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

    def register(self, app: Any, options: dict[str, Any]) -> None:
        """Called by Flask. Mistakes in the configuration show here, before the first request.

        Raises:
            InvalidConfig: Lists every mistake. The application is as it was.
        """
        check_settings(app)
        if options.get("url_prefix") == "":
            options = {**options, "url_prefix": "/"}  # an address has a slash at least
        super().register(app, options)
        self._apps.add(app)
        streams = registry_of(app).streams
        if self not in streams:
            streams.append(self)

    def before_request(self, f: _Function) -> _Function:
        """Register a guard: it runs before each stream is opened; what it returns is the answer.

        It is asked by whichever route a stream is opened, `stream` in a route of your own included,
        once in a request; never for ``OPTIONS``, whose answer has no stream.

        Unlike Flask's own it may be registered at any time, also after the blueprint: a guard that
        came too late would otherwise leave every channel open to everybody. An app factory that
        registers one for each of its applications gives each application its own.

        Args:
            f: Called without arguments inside the request, on its thread. It refuses by aborting,
                or by returning what a view may return; ``None`` lets the stream open. It may be
                ``async``, with ``flask[async]``.
        """
        self._guards.add(f, self._own_guards)
        return f

    def _ask_guards(self) -> Any:
        # Flask answers by itself, and then runs no view.
        automatic = getattr(request.url_rule, "provide_automatic_options", False)
        if request.method == "OPTIONS" and automatic:
            return None
        app = self._app()
        return ask(app, _request(), self._guards_in(app))

    def _answered(self, response: Response) -> Response:
        # What a guard aborted with; routes of your own on this blueprint are your own.
        is_stream = (request.endpoint or "").endswith(".stream")
        return keep_out_of_caches(response) if is_stream else response

    def _guards_in(self, app: Flask) -> list[Guard]:
        """The guards of one application: of this object, then of `sse` where that stands for it."""
        guards = self._guards.of(self._own_guards(app))
        sse = EventStream._ready_made
        if sse is not None and sse is not self and _find(app, sse) is self:
            guards += sse._guards.of(sse._own_guards(app))  # noqa: SLF001  the same
        return guards

    def _own_guards(self, app: Flask) -> list[Guard]:
        return registry_of(app).guards.setdefault(self, [])

    def publish(
        self,
        data: Any,
        type: Name | None = None,
        id: Name | None = None,
        retry: int | str | None = None,
        channel: Name | bytes = "sse",
    ) -> str:
        """Publish an event to every reader of a channel. Any thread of any process.

        Args:
            data: Text, sent as it is; an `Event`, complete; anything else becomes JSON by the
                app's JSON provider.
            type: What the page listens for with ``addEventListener``; by default ``message``.
            id: The event's own id, a point to resume from; by default the log's position.
            retry: Milliseconds the client shall wait before it reconnects, from now on.
            channel: Who gets it.

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
        event = _event(app, data, type, id, retry)
        return self._state(app).publisher.publish(event, channel=channel)

    def publish_many(self, items: Iterable[Any], channel: Name | bytes = "sse") -> list[str]:
        """Publish several events to one channel, in order, cheaper than one by one.

        Each item is what `publish` takes as data, or an `Event`. Returns their ids. Raises as
        `publish` does, also where ``items`` is a single text, dictionary or event: before anything
        was published if an item is wrong; if the broker fails on the way, SQLite took none of them,
        Redis perhaps some.
        """
        app = self._app()
        events = [_event(app, item) for item in checked_items(items)]
        return self._state(app).publisher.publish_many(events, channel=channel)

    def publish_to(
        self,
        channels: Iterable[Name | bytes],
        data: Any,
        type: Name | None = None,
        id: Name | None = None,
        retry: int | str | None = None,
    ) -> dict[str, str]:
        """Publish one event to each of several channels, cheaper than one by one.

        Arguments are those of `publish`; a channel that is there twice counts once. Returns the
        event's id in each channel, by its name. Raises as `publish` does, also where ``channels``
        is a single text: before anything was published if a name or the event is wrong; if the
        broker fails on the way, with SQLite no channel has it, with Redis perhaps some have.
        """
        app = self._app()
        event = _event(app, data, type, id, retry)
        return self._state(app).publisher.publish_to(channels, event)

    def end(self, channel: Name | bytes) -> None:
        """End a channel: its readers get ``stream-end``, and a reconnect gets 204.

        An event published later opens the channel again.

        Raises:
            InvalidChannel: The channel's name can't be one.
            BrokerUnavailable: It was not ended.
        """
        self._state().publisher.end(channel)

    def stream(self, **variables: object) -> Response:
        """The view: an event stream of the channels that the query names.

        Also for a route of your own, under any decorator. The guards of `before_request` are asked
        first. Waits a second for the broker at the most.

        Args:
            variables: Those in the address, which are for the guards: ``request.view_args``.

        Returns:
            The stream; or what a guard answers; 204 to a reader who has seen all channels end; 400
            where a channel can't be one.

        Raises:
            InvalidConfig: Lists every mistake.
            RuntimeError: The application does not have this object, or there is no request.
        """
        app = self._app()
        stream = _meant(app, self)
        guards = stream._guards_in(app)  # noqa: SLF001  of this class
        answer = ask(app, _request(), guards)
        if answer is not None:
            return keep_out_of_caches(app.make_response(answer))
        state = state_of(app, stream)
        if not guards:
            _say_unguarded(app, stream, state)
        return keep_out_of_caches(stream._open(app, state))  # noqa: SLF001  the same

    def _open(self, app: Flask, state: AppState) -> Response:
        """The answer to whom the guards let in."""
        return open_stream(app, state, _request())

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
        check_source(iterable)
        app = self._app()
        state = self._state(app)

        def to_event(item: Any) -> Event:
            if isinstance(item, str) and is_framed(item):
                state.say_once(
                    "sse.response got text that is framed already, %r, and frames it again: yield"
                    " the data alone, or an Event",
                    item[:40],
                )
            return _event(app, item)

        address = address_of(app, state, _request()) if has_request_context() else None
        asked = StreamRequest(
            lifetime_s=state.config.stream_lifetime_s, reader=Reader(address=address)
        )
        return event_stream(app, Opening(state, asked, source=iterable, to_event=to_event))

    def stats(self) -> Stats:
        """What the streams of this application do in this process. Any thread."""
        return self._state().stats()

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

    def _state(self, app: Flask | None = None) -> AppState:
        app = app or self._app()
        return state_of(app, _meant(app, self))

    def _app(self) -> Flask:
        if has_app_context():
            app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
            return app
        apps = list(self._apps)
        if len(apps) == 1:
            return apps[0]
        which = "no application" if not apps else f"{len(apps)} applications"
        raise RuntimeError(
            f"{self.name} belongs to {which}, so this must run inside one: use"
            " `with app.app_context():`, or Publisher(url), which needs no application"
        )


def _find(app: Flask, asked: EventStream) -> EventStream | None:
    """Which of an application's EventStreams is meant by an object: its state, its guards."""
    streams: list[EventStream] = registry_of(app).streams
    if asked in streams:
        return asked
    # An application that was given to EventStream(app) may import `sse` elsewhere.
    named = (stream for stream in streams if stream.name == asked.name)
    return next(named, None) if asked is EventStream._ready_made else None  # noqa: SLF001  ours


def _meant(app: Flask, asked: EventStream) -> EventStream:
    """The same.

    Raises:
        RuntimeError: None of them.
    """
    found = _find(app, asked)
    if found is None:
        here = "sse" if asked is EventStream._ready_made else "this object"  # noqa: SLF001  ours
        raise RuntimeError(
            f"{app} has no EventStream {asked.name!r} that {here} could stand for, so nobody"
            f" could read what it publishes: add app.register_blueprint({asked.name},"
            f" url_prefix={_DEFAULT_PREFIX!r})"
        )
    return found


def _event(
    app: Flask,
    data: Any,
    type: Any = None,
    id: Any = None,
    retry: Any = None,
) -> Event:
    if isinstance(data, (str, Event)):
        return make_event(data, type, id, retry)
    with app.app_context():
        return make_event(data, type, id, retry)


def _request() -> Request:
    current: Request = request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
    return current


def _say_unguarded(app: Flask, stream: EventStream, state: AppState) -> None:
    """Warn, once, of a stream that everybody may read."""
    guarded = [other.name for other in registry_of(app).streams if other._guards_in(app)]  # noqa: SLF001
    if guarded:
        say_once(
            app,
            "EventStream %r has no guard, and it serves the same channels as %s, which has one:"
            " add @before_request to both",
            stream.name,
            guarded[0],
        )
    elif not state.config.public:
        more = ""
        if state.config.broker_key == "REDIS_URL":
            more = f" of the Redis server that REDIS_URL names ({state.broker.url})"
        say_once(
            app,
            "EventStream %r has no guard: who may open it may read every channel%s. Add a function"
            " with @%s.before_request, or set SSE_PUBLIC = True",
            stream.name,
            more,
            stream.name,
        )
