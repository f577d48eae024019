"""Flask's signals for streams that open and end, sent on the worker and never on the hub's loop."""

from __future__ import annotations

import functools
import logging
import time
import weakref
from collections.abc import Collection
from typing import Any

from blinker import Namespace
from flask import Flask

from flask_eventstream.errors import EndReason
from flask_eventstream.hub.observer import Unobserved
from flask_eventstream.hub.request import Reader
from flask_eventstream.worker import WORKER

__all__ = ["Signals", "stream_ended", "stream_opened"]

_LOGGER = logging.getLogger("flask_eventstream")

_NAMES = Namespace()

stream_opened = _NAMES.signal("stream-opened", doc="A stream was opened: channels, subject.")
stream_ended = _NAMES.signal(
    "stream-ended", doc="A stream is gone: channels, subject, reason, duration_s."
)


class Signals(Unobserved):
    """Sends them for one application. Belongs to the hub's loop; costs a look where nobody listens.

    An end is sent of those streams whose beginning was seen: those that were opened while a
    receiver was connected to either signal.
    """

    def __init__(self, app: Flask) -> None:
        self._app = weakref.ref(app)
        self._opened_at_s: dict[str, float] = {}

    def opened(self, reader: Reader, channels: Collection[str]) -> None:
        """Let the receivers know, soon."""
        if stream_opened.receivers or stream_ended.receivers:
            self._opened_at_s[reader.stream_id] = time.monotonic()
            self._post(stream_opened, channels=tuple(channels), subject=reader.subject)

    def closed(self, reader: Reader, channels: Collection[str], reason: EndReason) -> None:
        """Let the receivers know, soon."""
        opened_at_s = self._opened_at_s.pop(reader.stream_id, None)
        if opened_at_s is not None:
            self._post(
                stream_ended,
                channels=tuple(channels),
                subject=reader.subject,
                reason=reason.value,
                duration_s=time.monotonic() - opened_at_s,
            )

    def _post(self, signal: Any, **what: object) -> None:
        if signal.receivers:
            WORKER.post(functools.partial(_send, signal, self._app, what))


def _send(signal: Any, reference: weakref.ref[Flask], what: dict[str, object]) -> None:
    app = reference()
    if app is None:
        return
    # One by one: `send` would stop at the first that raises.
    for receiver in signal.receivers_for(app):
        try:
            with app.app_context():
                app.ensure_sync(receiver)(app, **what)
        except Exception:
            _LOGGER.exception("A receiver of the signal %s raised", signal.name)
