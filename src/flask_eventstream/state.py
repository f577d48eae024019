"""One EventStream on one application: its configuration, its log, and this process's hub."""

from __future__ import annotations

import logging
import random
import re
import time
import weakref
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flask_eventstream.access.orders import BEGIN, REVOKED_FOR_S, revocation_of
from flask_eventstream.brokers import Broker, HasControl, HasRecords, broker_from_url
from flask_eventstream.config import Config
from flask_eventstream.errors import InvalidConfig
from flask_eventstream.hub.admission import Admission
from flask_eventstream.hub.adoption import Adoption, ServerConnection
from flask_eventstream.hub.callbacks import CloseCallbacks
from flask_eventstream.hub.deciding import Deciding, Decision
from flask_eventstream.hub.home import HOMES
from flask_eventstream.hub.hub import Stats, sum_stats
from flask_eventstream.hub.observer import Observer, Observers
from flask_eventstream.log.entries import Missed, UpToDate
from flask_eventstream.log.position import compose
from flask_eventstream.presence.census import Census
from flask_eventstream.process import at_exit
from flask_eventstream.publisher import Publisher

__all__ = ["SLOT", "AppState", "Slot", "make_broker"]

_LOGGER = logging.getLogger("flask_eventstream")

#: Events are as private as the channels they are in.
_FOLDER_MODE = 0o700

#: Characters of an application's name in its file's, which most systems bound at 255 bytes.
_MOST_OF_A_NAME = 100

#: Where servers/asgi puts a `Slot` into the scope of a request.
SLOT = "flask_eventstream.slot"


@dataclass(slots=True)
class Slot:
    """Under an ASGI server: what a response leaves behind so that its stream goes on without it."""

    connection: ServerConnection
    state: AppState | None = None
    adoption: Adoption | None = None


class AppState:
    """What the views and the extension need of one application. Any thread may use it.

    Args:
        config: Its settings.
        broker: Its log.
        observers: Told what happens to its streams.
    """

    def __init__(self, config: Config, broker: Broker, *observers: Observer) -> None:
        self.config = config
        self.broker = broker
        self.publisher = Publisher(
            broker,
            max_event_bytes=config.max_event_bytes,
            timeout_s=config.publish_timeout_s,
        )
        self.admission = Admission(config, random=random.random)
        self.callbacks = CloseCallbacks()
        self.census = Census(broker)
        self.observer: Observer = Observers(self.callbacks, self.census, *observers)
        """Who is told what happens to streams."""
        self._deciding = Deciding(broker)
        self._said: set[str] = set()
        _ENDS.add(self)

    def stats(self) -> Stats:
        """What this process's hubs do now."""
        hubs = HOMES.hubs_of(self)
        return sum_stats((hub.stats() for hub in hubs), self.admission.refused)

    def shut_down(self, within_s: float) -> bool:
        """End all streams of this process, and free what publishing holds: who goes on opens anew.

        Blocks; False where the time did not do.
        """
        ended = [home.end_streams(self, within_s) for home in HOMES.all()]
        self.census.leave()
        self.broker.close()
        return all(ended)

    def is_revoked(self, subject: str, issued_at: float) -> bool:
        """True where a grant that was made for a subject at this time is void.

        Any thread; waits for the broker as `Broker.arrive` does.

        Args:
            subject: Whom it was made for.
            issued_at: When, in seconds since 1970.

        Raises:
            BrokerUnavailable: Nobody knows. Let nobody in.
        """
        if issued_at < time.time() - REVOKED_FOR_S:
            return True  # if it was revoked, nobody remembers
        if not isinstance(self.broker, HasRecords):
            return False  # `revoke` refuses
        revoked_at = self.broker.recall(revocation_of(subject))
        return revoked_at is not None and issued_at <= float(revoked_at)

    def before_deciding(self) -> Decision:
        """Note the moment. Call right before it is decided whether a reader may have a stream.

        Then a `disconnect` that comes between that decision and the stream's opening ends the
        stream, too: its `Reader` takes what this returns. Costs nothing while this process has
        streams; else it waits for the broker as `Broker.arrive` does.
        """
        return self._deciding.begin(hears=any(hub.hears for hub in HOMES.hubs_of(self)))

    def position_of(self, channels: Sequence[str]) -> str | None:
        """Where these channels stand now, as an id to read on from; ``None`` where nobody can say.

        Any thread; waits for the broker as `Broker.arrive` does.

        Raises:
            BrokerUnavailable: The log can't be read.
        """
        standing = self.broker.arrive(channels, None)
        if isinstance(standing, Missed) and isinstance(self.broker, HasControl):
            if len(channels) > 1:
                # In a cluster, where each channel is a log.
                each = {channel: self.broker.arrive((channel,), None) for channel in channels}
                here = {c: s.page.position for c, s in each.items() if isinstance(s, UpToDate)}
                if len(here) == len(channels):
                    return compose(here)
            # Nothing was published yet. With this the log begins, which gives it places.
            self.broker.control(BEGIN)
            standing = self.broker.arrive(channels, None)
        return standing.page.position if isinstance(standing, UpToDate) else None

    def say_once(self, text: str, *details: object) -> None:
        """Log a warning, once per process."""
        if text not in self._said:
            self._said.add(text)
            _LOGGER.warning(text, *details)


class _Ends:
    """Closes the brokers of a process at its end: a server sees its clients leave, not vanish."""

    def __init__(self) -> None:
        self._states: weakref.WeakSet[AppState] = weakref.WeakSet()
        at_exit(self._close)

    def add(self, state: AppState) -> None:
        """A state that lives now."""
        self._states.add(state)

    def _close(self) -> None:
        for state in tuple(self._states):
            state.census.close()
            state.broker.close()


_ENDS = _Ends()


def make_broker(config: Config, *, folder: Path, name: str) -> Broker:
    """The broker that an application is configured for. Opens nothing yet.

    Args:
        config: The application's.
        folder: Where its own files lie; made if it is needed and missing, for this user alone.
        name: The application's, which is in the file's: applications may share a folder.

    Raises:
        InvalidConfig: No broker is known by its URL, or the folder can't be made.
    """
    url = config.broker_url
    if url is None:
        try:
            folder.mkdir(mode=_FOLDER_MODE, parents=True, exist_ok=True)
        except OSError as error:
            problem = (
                f"SSE_BROKER_URL is not set, and the default, a file in the instance folder"
                f" {folder}, can't be made ({error.strerror}): set it to sqlite:///path"
            )
            raise InvalidConfig([problem]) from error
        url = f"sqlite:///{folder / _file_of(name)}"
    return broker_from_url(
        url,
        retention=config.retention,
        timeout_s=config.publish_timeout_s,
        key=config.broker_key,
    )


def _file_of(name: str) -> str:
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:_MOST_OF_A_NAME]
    if plain != name:
        # Or two names could become one, and so would two logs.
        plain += f"-{zlib.crc32(name.encode('utf-8', 'surrogatepass')):08x}"
    return f"eventstream-{plain}.db"
