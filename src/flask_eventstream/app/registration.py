"""Which applications an EventStream belongs to, and which EventStream of one is meant."""

from __future__ import annotations

import weakref
from typing import Any, ClassVar

from flask import Blueprint, Flask, current_app, has_app_context

from flask_eventstream.app.registry import registry_of
from flask_eventstream.app.settings import check_settings, state_of
from flask_eventstream.state import AppState

__all__ = ["DEFAULT_PREFIX", "Registration"]

DEFAULT_PREFIX = "/stream"


class Registration(Blueprint):
    """The part of an `EventStream` that knows its applications."""

    #: What ``from flask_eventstream import sse`` gives; made by app/compat.py, as it is one of
    #: flask-sse's class.
    _ready_made: ClassVar[Registration | None] = None

    def _begin(self) -> None:
        self._apps: weakref.WeakSet[Flask] = weakref.WeakSet()

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
        # As Flask names it: a parent's name comes first, and a name may be given at registration.
        name = f"{options.get('name_prefix', '')}.{options.get('name', self.name)}.stream"
        registry_of(app).endpoints.setdefault(self, name.lstrip("."))
        app.add_template_global(_first_url, "sse_url")

    def _meant(self, app: Flask) -> Any:
        """Which of an application's EventStreams is meant by this object.

        Raises:
            RuntimeError: None of them.
        """
        found = self._find(app)
        if found is None:
            here = "sse" if self is Registration._ready_made else "this object"
            raise RuntimeError(
                f"{app} has no EventStream {self.name!r} that {here} could stand for, so nobody"
                f" could read what it publishes: add app.register_blueprint({self.name},"
                f" url_prefix={DEFAULT_PREFIX!r})"
            )
        return found

    def _find(self, app: Flask) -> Any:
        """The same, or ``None``. Its state, its guards and its rules count."""
        streams = registry_of(app).streams
        if self in streams:
            return self
        # An application that was given to EventStream(app) may import `sse` elsewhere.
        named = (stream for stream in streams if stream.name == self.name)
        return next(named, None) if self is Registration._ready_made else None

    def _stands_for(self, app: Flask) -> Registration | None:
        """`sse`, where that means this object."""
        sse = Registration._ready_made
        if sse is None or sse is self:
            return None
        return sse if sse._find(app) is self else None  # noqa: SLF001  of this class

    def _state(self, app: Flask | None = None) -> AppState:
        app = app or self._app()
        return state_of(app, self._meant(app))

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


def _first_url(*channels: Any, **values: Any) -> str:
    """``sse_url`` of templates: a link of the application's first EventStream."""
    address: str = registry_of(current_app).streams[0].url(*channels, **values)
    return address
