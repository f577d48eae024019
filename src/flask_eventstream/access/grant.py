"""What a rule or a link gives a reader: who it is, and until when it may read.

Rules of this room: no clock, no socket, nothing of an application.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from flask_eventstream.errors import InvalidGrant

__all__ = ["Grant", "check_subject"]

#: A subject stands in each lease, link and control entry: long enough for "tenant:uuid".
_MAX_SUBJECT_BYTES = 200

#: What the others see of a member; it is sent to each of them.
_MAX_INFO_BYTES = 1024


@dataclass(frozen=True, slots=True)
class Grant:
    """A right to read, as a rule of `EventStream.channel` returns it.

    Args:
        subject: Who reads, such as a user's id: text of at most 200 bytes, or a number. It is what
            `EventStream.disconnect` and limits go by. ``None`` is a reader without a name.
        info: What the other members of a channel see of the reader; at most 1 KB as JSON.
        until: When the right ends: seconds since 1970, or a `datetime` with a time zone. ``None``
            is never. The stream then gets ``stream-expired`` and ends.
        history: False where the reader gets only what comes from now on, whatever id it shows.

    Raises:
        InvalidGrant: Names the field, the value and the remedy.
    """

    subject: str | None = None
    info: Mapping[str, Any] | None = None
    until: float | None = None
    history: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "subject", check_subject(self.subject))
        object.__setattr__(self, "until", _seconds(self.until))
        if self.info is not None:
            _check_info(self.info)

    def __repr__(self) -> str:
        # `info` may be anything of a person; a log line is no place for it.
        return f"Grant(subject={self.subject!r}, until={self.until!r}, history={self.history!r})"


def check_subject(value: object) -> str | None:
    """A subject as text; a number is taken, as primary keys are.

    Raises:
        InvalidGrant: It is something else, empty, too long, or has control characters.
    """
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        why = f"must be text or a number, not {type(value).__name__}"
        raise InvalidGrant("subject", value, why)
    if not value:
        raise InvalidGrant("subject", value, "is empty: leave it out for a reader without a name")
    if not value.isprintable():
        raise InvalidGrant("subject", value, "has a control character: use printable text")
    if len(value.encode("utf-8", "surrogatepass")) > _MAX_SUBJECT_BYTES:
        raise InvalidGrant("subject", value, f"is longer than {_MAX_SUBJECT_BYTES} bytes")
    return value


def _seconds(value: object) -> float | None:
    if value is None:
        return None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            why = "has no time zone: datetime.now(timezone.utc) + timedelta(hours=1), say"
            raise InvalidGrant("until", value, why)
        return value.astimezone(timezone.utc).timestamp()
    number = float(value) if isinstance(value, (int, float)) else None
    if number is None or isinstance(value, bool) or not 0 <= number < float("inf"):
        raise InvalidGrant("until", value, "must be seconds since 1970 or a datetime")
    return number


def _check_info(value: object) -> None:
    if not isinstance(value, Mapping):
        raise InvalidGrant("info", value, f"must be a dict, not {type(value).__name__}")
    try:
        size_bytes = len(json.dumps(dict(value), allow_nan=False).encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidGrant("info", value, f"can't be made JSON ({error})") from error
    if size_bytes > _MAX_INFO_BYTES:
        why = f"is {size_bytes} bytes of JSON, more than {_MAX_INFO_BYTES}: send a link to the rest"
        raise InvalidGrant("info", value, why)
