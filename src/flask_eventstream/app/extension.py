"""EventStream: the Flask extension. A blueprint with one route, and a way to publish."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from flask import Blueprint, Flask, Response, current_app, has_app_context, request
from flask.json import dumps

from flask_eventstream.app.views import event_stream, open_stream
from flask_eventstream.brokers import Broker, broker_from_url
from flask_eventstream.config import Config
from flask_eventstream.errors import InvalidConfig
from flask_eventstream.event import Event, Name, use_json_dumps
from flask_eventstream.hub.hub import Stats
from flask_eventstream.hub.request import StreamRequest
from flask_eventstream.process import Lock
from flask_eventstream.publisher import checked_items, make_event
from flask_eventstream.servers.wsgi.response import Opening
from flask_eventstream.state import AppState

__all__ = ["EventStream", "sse"]

_Guard = TypeVar("_Guard", bound=Callable[[], Any])

#: Where states lie in ``app.extensions``: a dict from extension object to `AppState`.
EXTENSION_KEY = "flask_eventstream"

_DEFAULT_PREFIX = "/stream"
_DEFAULT_FILE = "eventstream.db"

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

    def __init__(self, app: Flask | None = None, *, name: str = "sse") -> None:
        super().__init__(name, __name__)
        self._begin()
        self.add_url_rule("", endpoint="stream", view_func=self.stream)
        if app is not None:
            self.init_app(app)

    def _begin(self) -> None:
        self._guards: list[Callable[[], Any]] = []
        self._apps: weakref.WeakSet[Flask] = weakref.WeakSet()
        self._lock = Lock()
        super().before_request(self._ask_guards)

    def init_app(self, app: Flask, url_prefix: str = _DEFAULT_PREFIX) -> None:
        """Register on an application, and read its configuration now.

        Raises:
            InvalidConfig: Lists every mistake.
        """
        app.register_blueprint(self, url_prefix=url_prefix)
        self.state(app)

    def register(self, app: Any, options: dict[str, Any]) -> None:
        """Called by Flask. Without a prefix the stream is at ``/stream``."""
        if not (options.get("url_prefix") or self.url_prefix):
            options = {**options, "url_prefix": _DEFAULT_PREFIX}
        super().register(app, options)
        self._apps.add(app)
        app.extensions.setdefault(EXTENSION_KEY, {}).setdefault(self, None)

    def before_request(self, f: _Guard) -> _Guard:
        """Register a rule that runs before each stream is opened; what it returns is the answer.

        Unlike Flask's own it may be registered at any time, also after the blueprint: a rule that
        came too late would otherwise leave every channel open to everybody.
        """
        self._guards.append(f)
        return f

    def _ask_guards(self) -> Any:
        for guard in self._guards:
            answer = current_app.ensure_sync(guard)()
            if answer is not None:
                return answer
        return None

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
        return self.state(app).publisher.publish(event, channel=channel)

    def publish_many(self, items: Iterable[Any], channel: Name | bytes = "sse") -> list[str]:
        """Publish several events to one channel, in order, cheaper than one by one.

        Each item is what `publish` takes as data, or an `Event`. Returns their ids. Raises as
        `publish` does, also where ``items`` is a single text, dictionary or event: before anything
        was published if an item is wrong; if the broker fails on the way, SQLite took none of them,
        Redis perhaps some.
        """
        app = self._app()
        events = [_event(app, item) for item in checked_items(items)]
        return self.state(app).publisher.publish_many(events, channel=channel)

    def end(self, channel: Name | bytes) -> None:
        """End a channel: its readers get ``stream-end``, and a reconnect gets 204.

        An event published later opens the channel again.

        Raises:
            InvalidChannel: The channel's name can't be one.
            BrokerUnavailable: It was not ended.
        """
        self.state().publisher.end(channel)

    def stream(self) -> Response:
        """The view: an event stream of the channels that the query names."""
        return open_stream(self._app(), self.state(), request)

    def response(self, iterable: Iterable[Any]) -> Response:
        """A response that sends what ``iterable`` yields as events, as it yields them.

        Strings are sent as they are, `Event` objects complete, anything else as JSON. The stream
        opens at once, gets heartbeats while the iterable is silent, and ends with it. An
        EventSource then connects again, which calls the view again: let the page close it at an
        event of yours that says so.

        The iterable runs on a **thread of its own** for as long as the client stays, outside any
        request context (``flask.stream_with_context`` gives it one). Events for many readers are
        better published to a channel, which costs no thread.
        """
        app = self._app()
        to_event = functools.partial(_event, app)
        state = self.state(app)
        asked = StreamRequest(lifetime_s=state.config.stream_lifetime_s)
        return event_stream(app, Opening(state, asked, source=iterable, to_event=to_event))

    def stats(self) -> Stats:
        """What the hub of this process does now."""
        return self.state().stats()

    def state(self, app: Flask | None = None) -> AppState:
        """The state of one application, made at first use.

        Raises:
            InvalidConfig: Lists every mistake.
        """
        app = app or self._app()
        states: dict[EventStream, AppState | None] = app.extensions.setdefault(EXTENSION_KEY, {})
        stream = self._registered_in(states)
        state = states.get(stream)
        if state is None:
            with self._lock:
                state = states.get(stream)
                if state is None:
                    state = states[stream] = _make_state(app)
        return state

    def _registered_in(self, states: Mapping[EventStream, AppState | None]) -> EventStream:
        """This object, or the one that the application has under its name.

        An application that was given to ``EventStream(app)`` may well import ``sse`` to publish.
        """
        named = (stream for stream in states if stream.name == self.name)
        return self if self in states else next(named, self)

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


def _make_state(app: Flask) -> AppState:
    config = Config.from_mapping(app.config)
    return AppState(config, _make_broker(app, config))


def _make_broker(app: Flask, config: Config) -> Broker:
    url = config.broker_url
    if url is None:
        folder = Path(app.instance_path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            problem = (
                f"SSE_BROKER_URL is not set, and the default, a file in the instance folder"
                f" {folder}, can't be made ({error.strerror}): set it to sqlite:///path"
            )
            raise InvalidConfig([problem]) from error
        url = f"sqlite:///{folder / _DEFAULT_FILE}"
    return broker_from_url(
        url,
        retention=config.retention,
        timeout_s=config.publish_timeout_s,
        key=config.broker_key,
    )


sse = EventStream()
