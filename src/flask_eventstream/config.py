"""Every setting: its key, unit, default, bounds and reason, in one place.

A bad value of a setting of ours is a mistake, and all mistakes are reported together, each with its
key. A key that is not ours is never one: it may well be the application's own. Where it looks like
a slip, `unread_keys` has a warning for it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from flask_eventstream.errors import InvalidConfig
from flask_eventstream.log.entries import Retention

__all__ = ["URL_KEYS", "Config", "unread_keys"]

#: The keys that may name the broker, in the order in which they are asked.
URL_KEYS = ("SSE_BROKER_URL", "SSE_REDIS_URL", "REDIS_URL")


@dataclass(frozen=True, slots=True)
class Config:
    """How Flask-EventStream behaves in one application."""

    broker_url: str | None = field(default=None, repr=False)  # it may have a password
    """``SSE_BROKER_URL``; else the older extensions' keys: ``SSE_REDIS_URL``, ``REDIS_URL``, or any
    of ``SSE_REDIS_HOST`` [localhost], ``SSE_REDIS_PORT`` [6379] and ``SSE_REDIS_DB`` [0], in this
    order. ``None``: a SQLite file in the application's instance folder."""
    broker_key: str = "SSE_BROKER_URL"
    """The key that ``broker_url`` came from, to be named in errors."""
    handoff: bool = True
    """``SSE_HANDOFF``, ``auto`` or ``off``. Off: every stream holds a worker thread."""
    heartbeat_s: float = 15.0
    """``SSE_HEARTBEAT_S``. A stream is never silent for longer. WHATWG HTML 9.2.7 advises 15 s;
    the usual idle cut-offs are 60 s (nginx, AWS) and 55 s (Heroku)."""
    retry_ms: int = 3000
    """``SSE_RETRY_MS``. How long a client waits before it reconnects; browsers' own choice is
    3 to 5 s."""
    history_length: int = 1000
    """``SSE_HISTORY_LENGTH``. Events of each channel that a returning reader can still get."""
    history_age_s: float = 86_400.0
    """``SSE_HISTORY_AGE_S``. Seconds after which an event is no longer given to a returning
    reader: a laptop closed over night finds everything."""
    max_event_bytes: int = 4 * 1024 * 1024
    """``SSE_MAX_EVENT_BYTES``. Bytes of an event's data. An event lies in the memory of every
    process that has a reader; what is larger is better fetched by link."""
    max_buffer_bytes: int = 1024 * 1024
    """``SSE_MAX_BUFFER_BYTES``. Bytes that wait in this process for one slow reader before its
    stream is cut (it comes back and resumes). The kernel buffers a few MB before that."""
    stream_lifetime_s: float = 3600.0
    """``SSE_STREAM_LIFETIME_S``. A stream is ended after so long, shortened at random by up to a
    fifth so that they don't all end together; the client comes back at once. So the rights to
    read are asked again, and load spreads over new workers. 0: never."""
    max_streams: int | None = None
    """``SSE_MAX_STREAMS``. Streams per process. ``None``: what the limit on open files leaves."""
    max_streams_per_address: int | None = None
    """``SSE_MAX_STREAMS_PER_ADDRESS``. Streams per process of one client address. ``None``: any
    number, because all have one address behind a proxy of which the application does not know."""
    max_streams_per_subject: int = 64
    """``SSE_MAX_STREAMS_PER_SUBJECT``. Streams per process of one subject: somebody's devices and
    tabs are a dozen."""
    max_channels: int = 32
    """``SSE_MAX_CHANNELS``. Channels of one stream."""
    publish_timeout_s: float = 5.0
    """``SSE_PUBLISH_TIMEOUT_S``. Seconds after which a publish gives up on its broker."""
    cors_origins: tuple[str, ...] | Callable[[str], bool] = ()
    """``SSE_CORS_ORIGINS``. Other origins whose pages may read streams, with their cookies: exact
    ones, or a function that is given one and says True."""
    public: bool = False
    """``SSE_PUBLIC``. True: every channel is meant for everybody, so nothing is said about it."""

    @property
    def retention(self) -> Retention:
        """How much of each channel readers may get."""
        return Retention(self.history_length, self.history_age_s)

    @classmethod
    def from_mapping(cls, settings: Mapping[str, Any]) -> Config:
        """The configuration in ``settings``, as ``app.config`` holds it.

        Raises:
            InvalidConfig: Lists every mistake and the key it is in.
        """
        problems: list[str] = []
        values: dict[str, Any] = {}
        for key, (name, read) in _READERS.items():
            if settings.get(key) is not None:
                try:
                    values[name] = read(settings[key])
                except ValueError as error:
                    problems.append(f"{key} is {_shown(key, settings[key])}, but must be {error}")
        if "broker_url" not in values:
            values |= _older_url(settings, problems)
        if problems:
            raise InvalidConfig(problems)
        return cls(**values)


def unread_keys(settings: Mapping[str, Any]) -> Iterator[str]:
    """A warning for each key that looks like a setting of ours and is none."""
    for key in sorted(map(str, settings)):
        if not key.startswith("SSE_") or key in _READERS or key in _REDIS_KEYS:
            continue
        like = difflib.get_close_matches(key, _READERS, cutoff=_LIKENESS)
        if key.startswith("SSE_REDIS_"):
            # Nobody else's: the prefix of the older extensions.
            yield f"{key} is not read: it belongs into SSE_BROKER_URL, redis://user:password@host"
        elif like:
            words = set(key.split("_"))
            # Of those that are like it, one that shares a word: SSE_URL is not SSE_PUBLIC.
            meant = max(like, key=lambda known: len(words.intersection(known.split("_"))))
            yield f"{key} is not read: if it was meant for Flask-EventStream, it is {meant}"


def _older_url(settings: Mapping[str, Any], problems: list[str]) -> dict[str, str]:
    """What the older extensions' keys say; their own order of precedence is kept."""
    for key in URL_KEYS[1:]:
        if settings.get(key):
            return {"broker_url": str(settings[key]), "broker_key": key}
    if all(settings.get(key) is None for key in _REDIS_PARTS):
        return {}
    parts = {"SSE_REDIS_HOST": "localhost", "SSE_REDIS_PORT": 6379, "SSE_REDIS_DB": 0}
    for key, read in _REDIS_PARTS.items():
        if settings.get(key) is not None:
            try:
                parts[key] = read(settings[key])
            except ValueError as error:
                problems.append(f"{key} is {settings[key]!r}, but must be {error}")
    host, port, database = parts.values()
    return {"broker_url": f"redis://{host}:{port}/{database}", "broker_key": "SSE_REDIS_HOST"}


def _shown(key: str, value: object) -> str:
    """The value, but of what was meant for a URL, which may have a password, only its kind."""
    hide = key in URL_KEYS and not (isinstance(value, str) and not value.strip())
    return type(value).__name__ if hide else repr(value)


def _yes_or_no(value: object) -> bool:
    if isinstance(value, bool):
        return value
    # How it comes out of the environment.
    if isinstance(value, str) and value.lower() in _WORDS:
        return _WORDS[value.lower()]
    raise ValueError("True or False")


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("a URL such as sqlite:///events.db")
    return value.strip()


def _switch(value: object) -> bool:
    if value == "auto":
        return True
    # YAML and TOML files turn a bare off into False.
    if value in ("off", False):
        return False
    raise ValueError("'auto' or 'off'")


def _origins(value: object) -> tuple[str, ...] | Callable[[str], bool]:
    if callable(value):
        checked: Callable[[str], bool] = value
        return checked
    if isinstance(value, str):  # how it comes out of the environment
        value = [part.strip() for part in value.split(",") if part.strip()]
    origins = tuple(value) if isinstance(value, (list, tuple, set, frozenset)) else None
    if origins is None:
        raise ValueError("a list of origins such as 'https://shop.example', or a function")
    for origin in origins:
        _check_origin(origin)
    return origins


def _check_origin(origin: object) -> None:
    if origin == "*":
        raise ValueError(
            "a list of origins: '*' would let any site read what your readers' cookies allow, and"
            " no browser takes it with credentials. A function can look at an origin"
        )
    if not isinstance(origin, str) or _ORIGIN.fullmatch(origin) is None:
        raise ValueError(
            f"a list of origins as browsers send them, such as 'https://shop.example' or"
            f" 'http://localhost:8080', in lower case, without a path or a slash at the end, and"
            f" {origin!r} is none"
        )
    scheme, _, port = origin.partition(":")[0], *origin.rpartition(":")[1:]
    if _USUAL_PORTS.get(scheme) == port:
        raise ValueError(f"origins as browsers send them: leave out :{port} of {origin!r}")


def _whole(least: int, most: int, unit: str) -> Callable[[object], int]:
    def read(value: object) -> int:
        number = _number(value)
        if number is None or not least <= number <= most or number != int(number):
            raise ValueError(f"a whole number of {unit}, {least} to {most}")
        return int(number)

    return read


def _seconds(least: float, most: float) -> Callable[[object], float]:
    def read(value: object) -> float:
        number = _number(value)
        if number is None or not least <= number <= most:
            raise ValueError(f"seconds, {least:g} to {most:g}")
        return number

    return read


def _number(value: object) -> float | None:
    """A number, also as text: that is how settings come out of the environment."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


_DAY_S = 86_400.0

#: What a browser sends of a page: no path, no default port, a name in lower case (as Punycode).
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://([a-z0-9._-]+|\[[0-9a-f:]+\])(:[1-9][0-9]{0,4})?")
_USUAL_PORTS = {"http": "80", "https": "443"}

_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}

#: How like a key of ours another is that is taken for a slip (difflib's ratio): SSE_URL is meant,
#: and SSE_OF_MY_OWN is not.
_LIKENESS = 0.65

#: key → (field of Config, how its value is read). A bound is where a setting stops making sense.
_READERS: dict[str, tuple[str, Callable[[object], Any]]] = {
    "SSE_BROKER_URL": ("broker_url", _text),
    "SSE_HANDOFF": ("handoff", _switch),
    "SSE_HEARTBEAT_S": ("heartbeat_s", _seconds(0.05, 3600)),
    "SSE_RETRY_MS": ("retry_ms", _whole(0, 3_600_000, "milliseconds")),
    "SSE_HISTORY_LENGTH": ("history_length", _whole(0, 10_000_000, "events")),
    "SSE_HISTORY_AGE_S": ("history_age_s", _seconds(0, 3650 * _DAY_S)),
    "SSE_MAX_EVENT_BYTES": ("max_event_bytes", _whole(1, 512 * 1024 * 1024, "bytes")),
    "SSE_MAX_BUFFER_BYTES": ("max_buffer_bytes", _whole(1024, 1024 * 1024 * 1024, "bytes")),
    "SSE_STREAM_LIFETIME_S": ("stream_lifetime_s", _seconds(0, 365 * _DAY_S)),
    "SSE_MAX_STREAMS": ("max_streams", _whole(1, 10_000_000, "streams")),
    "SSE_MAX_STREAMS_PER_ADDRESS": (
        "max_streams_per_address",
        _whole(1, 10_000_000, "streams"),
    ),
    "SSE_MAX_STREAMS_PER_SUBJECT": (
        "max_streams_per_subject",
        _whole(1, 10_000_000, "streams"),
    ),
    "SSE_MAX_CHANNELS": ("max_channels", _whole(1, 1000, "channels")),
    "SSE_PUBLISH_TIMEOUT_S": ("publish_timeout_s", _seconds(0.01, 600)),
    "SSE_CORS_ORIGINS": ("cors_origins", _origins),
    "SSE_PUBLIC": ("public", _yes_or_no),
}

_REDIS_PARTS: dict[str, Callable[[object], Any]] = {
    "SSE_REDIS_HOST": str,
    "SSE_REDIS_PORT": _whole(1, 65_535, "the server's port"),
    "SSE_REDIS_DB": _whole(0, 1_000_000, "the database's number"),
}
_REDIS_KEYS = (*URL_KEYS[1:], *_REDIS_PARTS)
