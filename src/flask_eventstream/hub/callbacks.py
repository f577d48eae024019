"""What an application wants called when a stream is over (``response.call_on_close``)."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Collection, Sequence

from flask_eventstream.errors import EndReason
from flask_eventstream.hub.observer import Unobserved
from flask_eventstream.hub.request import Reader
from flask_eventstream.worker import WORKER

__all__ = ["Callback", "CloseCallbacks"]

_LOGGER = logging.getLogger("flask_eventstream")

Callback = Callable[[], object]


class CloseCallbacks(Unobserved):
    """Callbacks by stream. They run when the stream is gone, once, on the worker.

    `expect` and `forget` on the request's thread, before the stream is given to a hub.
    """

    def __init__(self) -> None:
        self._of: dict[str, Sequence[Callback]] = {}

    def expect(self, reader: Reader, callbacks: Sequence[Callback]) -> None:
        """Call these when the reader's stream is over."""
        if callbacks:
            WORKER.prepare()
            self._of[reader.stream_id] = callbacks

    def forget(self, reader: Reader) -> None:
        """The stream was not opened: its response is closed by its server, as any other."""
        self._of.pop(reader.stream_id, None)

    def closed(self, reader: Reader, channels: Collection[str], reason: EndReason) -> None:
        """Let the callbacks of this stream run."""
        callbacks = self._of.pop(reader.stream_id, ())
        if callbacks:
            WORKER.post(functools.partial(_run_all, callbacks))


def _run_all(callbacks: Sequence[Callback]) -> None:
    for callback in callbacks:
        try:
            callback()
        except Exception:
            _LOGGER.exception("A callback at the end of an event stream raised")
