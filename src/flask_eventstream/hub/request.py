"""What a reader asks for, as the view understood it: plain values, fit to be sent to a process.

Rules of this room: no socket, no callable, nothing of an application. Whatever stands here must
survive `StreamRequest.to_json`.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from flask_eventstream.log.entries import Missed, Place, Replay, UpToDate
from flask_eventstream.log.position import After, Now, Start

__all__ = ["After", "Now", "Reader", "Start", "StreamRequest", "new_stream_id"]

#: Bytes of a stream's own name. It is no secret; two streams of one deployment must not share it.
_STREAM_ID_BYTES = 9


def new_stream_id() -> str:
    """A name that no other stream has."""
    return secrets.token_urlsafe(_STREAM_ID_BYTES)


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads a stream. Never logged whole: a grant is a key."""

    stream_id: str = field(default_factory=new_stream_id)
    """This one stream's name; a client that comes back gets another."""
    client_id: str | None = None
    """What the page calls itself."""
    subject: str | None = None
    """Whom the application took it for."""
    grant: str | None = field(default=None, repr=False)
    """What it may read, as it was signed."""
    address: str | None = None
    """The client's, as the application sees it: behind a proxy, what ProxyFix makes of it."""
    expires_at: float | None = None
    """When its right to read ends, in seconds since 1970."""
    decided_at_s: float | None = None
    """When somebody began to decide that it may read, by the machine's monotonic clock; ``None``
    where everybody may."""
    control_position: str | None = None
    """Where the control entries stood then; ``None`` where this process hears them anyway."""


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """A reader's request for a stream."""

    channels: tuple[str, ...] = ()
    """Sorted, each once. Empty where an application's own iterable writes the stream."""
    start: Start = field(default_factory=Now)
    """Where its events begin."""
    standing: Missed | UpToDate = field(default_factory=Missed)
    """Where the log stood at the request, if the reader has everything up to there."""
    tells_position: bool = False
    """True where the client understands a block that only sets the last event ID."""
    padding_bytes: int = 0
    lifetime_s: float = 0.0
    """Seconds until the stream ends with `EndReason.AGE`; 0 is never."""
    reader: Reader = field(default_factory=Reader)

    @property
    def after(self) -> str | None:
        """The last event ID to read the log from; ``None`` is "from now on"."""
        return self.start.id if isinstance(self.start, After) else None

    def lasting(self, lifetime_s: float) -> StreamRequest:
        """The same request for a stream of another lifetime."""
        return replace(self, lifetime_s=lifetime_s)

    def to_json(self) -> str:
        """The request as text, for another process."""
        plain = {**_fields(self), "start": _plain_start(self.start), "reader": asdict(self.reader)}
        plain["standing"] = _plain_standing(self.standing)
        return json.dumps(plain)

    @classmethod
    def from_json(cls, text: str) -> StreamRequest:
        """The request that `to_json` wrote.

        Raises:
            ValueError: It is something else.
        """
        try:
            plain = json.loads(text)
            return cls(
                **{
                    **plain,
                    "channels": tuple(plain["channels"]),
                    "start": _start(**plain["start"]),
                    "standing": _standing(plain["standing"]),
                    "reader": Reader(**plain["reader"]),
                }
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"this is no request for a stream: {error!r}") from error


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__dataclass_fields__}


_STARTS: dict[str, type[Start]] = {kind.__name__: kind for kind in (Now, After)}


def _plain_start(start: Start) -> dict[str, str]:
    return {"kind": type(start).__name__, **asdict(start)}


def _start(*, kind: str, **fields: str) -> Start:
    return _STARTS[kind](**fields)


def _plain_standing(standing: Missed | UpToDate) -> dict[str, Any] | None:
    if isinstance(standing, Missed):
        return None
    page = standing.page  # it has no entries
    places = page.places
    return {
        "latest": dict(standing.latest),
        "gone": sorted(page.gone),
        "sequence": page.sequence,
        "start": page.start,
        "position": page.position,
        "ended": sorted(page.ended),
        "places": places and {name: asdict(place) for name, place in places.items()},
    }


def _standing(plain: dict[str, Any] | None) -> Missed | UpToDate:
    if plain is None:
        return Missed()
    latest, places = plain.pop("latest"), plain.pop("places")
    if places is not None:
        places = {name: Place(**place) for name, place in places.items()}
    sets = {name: frozenset(plain[name]) for name in ("gone", "ended")}
    return UpToDate(latest, Replay((), **{**plain, **sets}, places=places))
