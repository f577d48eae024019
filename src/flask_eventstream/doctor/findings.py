"""What is wrong, from what was seen.

No socket, no clock, no broker: facts in, findings out. probe.py sees, remedies.py has the words.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from flask_eventstream.doctor.remedies import FINDINGS, FINE, HELD, Level

__all__ = ["AppFacts", "Remark", "StreamFacts", "examine_app", "examine_stream", "render"]

#: A stream holds a thread where nothing better is to be had. Below this many threads, half of
#: which may hold streams, a class of pupils is too much for one process.
_MANY_THREADS = 100

#: Of Redis' connections in use: beyond this a deploy, which doubles the processes, does not fit.
_NEARLY_ALL = 0.8

_OK = 200

#: What a status means; any other is a failure.
_STATUSES = {
    204: "ended",
    **dict.fromkeys((301, 302, 303, 307, 308), "redirect"),
    **dict.fromkeys((401, 403), "forbidden"),
    404: "not-found",
    **dict.fromkeys((502, 503, 504), "no-upstream"),
}

#: A stream's lifetime is shortened at random by up to a fifth (hub/hub.py).
_SHORTEST_LIFE = 0.8

#: A stream that ends in order so soon was never meant to go on.
_AT_ONCE_S = 1.0

_WIDTH = 96
_MARGIN = " " * 10


@dataclass(frozen=True, slots=True)
class Remark:
    """One thing that was checked: fine, or a finding."""

    level: Level | None
    """``None`` where it is fine."""
    headline: str
    why: str = ""
    mend: str = ""


@dataclass(slots=True)
class AppFacts:
    """What can be seen from the application alone."""

    broker: str
    app: str
    """What a server is told to serve: ``shop:app``."""
    path: str
    """Where the application has its stream."""
    heartbeat_s: float
    lifetime_s: float
    max_event_bytes: int
    takes_events: bool = False
    """True where the broker took one."""
    trouble: tuple[str, str] | None = None
    """Why it took none, and what helps."""
    lacks_uvloop: bool = False
    redis: Mapping[str, str] | None = None
    """What a Redis server says of itself, as far as it does."""

    @property
    def is_memory(self) -> bool:
        """True where no other process can publish."""
        return self.broker.startswith("memory:")


@dataclass(slots=True)
class StreamFacts:
    """What happened on a visit to the stream. Filled in as it happens."""

    url: str
    host: str
    port: int
    should_be: str
    """The address that the stream would have on this host."""
    channel: str
    waited_s: float
    """How long anything was waited for, but heartbeats."""
    is_tls: bool = False
    failure: tuple[str, str] | None = None
    """Why there was no connection: the key of a finding, and the system's words."""
    offers_http2: bool = False
    answers: bool = False
    """To a HEAD request."""
    status: int | None = None
    """Of the stream; ``None`` where no head came."""
    content_type: str = ""
    location: str = ""
    is_compressed: bool = False
    garbled: bool = False
    answered_s: float = 0.0
    told: Mapping[str, Any] = field(default_factory=dict)
    """What the server says of itself to a good ticket."""
    pids: frozenset[int] = frozenset()
    """Of the processes that answered."""
    opened: bool = False
    """True where the first line came in time."""
    flooded: bool = False
    """True where a large event was published to see whether a buffer overflows."""
    flushed: bool = False
    """True where that brought what had not come."""
    trouble: tuple[str, str] | None = None
    """Why the broker took no probe, and what helps."""
    probed: bool = False
    probe_s: float | None = None
    """How long the probe took; ``None`` where it did not come in time."""
    plain_s: float | None = None
    """The same without compression, where compression was suspected."""
    ended: str = ""
    """How the stream ended, by the words of `visit.Visit.ended`."""
    silent_s: float = 0.0
    """Between the last byte, and the heartbeat or the end or when waiting was given up."""
    stayed_s: float = 0.0
    """From the request to its end, or to when we left."""
    beat: bool = False
    """True where a heartbeat came."""


def examine_app(app: AppFacts) -> Iterator[Remark]:
    """What is wrong, or fine, with the application alone."""
    if app.trouble is not None:
        yield _broker_away(app, app.trouble)
    elif app.takes_events and not app.is_memory:
        yield _fine("broker", broker=app.broker)
    yield _finding("no-uvloop") if app.lacks_uvloop else _fine("uvloop")
    if app.redis is not None:
        yield from _redis(app.redis, app.max_event_bytes)


def examine_stream(app: AppFacts, seen: StreamFacts) -> Iterator[Remark]:
    """What is wrong, or fine, with the stream at an address."""
    known = _known(app, seen)
    if seen.failure is not None:
        key, why = seen.failure
        yield _finding(key, **known, why=why)
        return
    if not seen.answers:
        yield _finding("no-answer", **known)
        return
    yield from _processes(app, seen)
    if seen.status is None:
        yield _finding("buffered" if seen.flushed else "withheld", **known)
        return
    wrong = _wrong_answer(seen)
    if wrong is not None:
        yield _finding(wrong, **known)
        return
    yield _fine("answer", **known)
    yield from _delivery(app, seen, known)
    yield from _holding(app, seen)
    if seen.offers_http2:
        yield _fine("http2")
    else:
        yield _finding("six-tls" if seen.is_tls else "six", **known)


def render(remark: Remark) -> str:
    """A remark as lines for a terminal, without the last line's end."""
    label = remark.level.value if remark.level else "ok"
    if not remark.mend:
        return f"  {label:<7} {remark.headline}"
    why = textwrap.fill(
        remark.why, _WIDTH, initial_indent=_MARGIN, subsequent_indent=_MARGIN,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    mend = textwrap.indent(remark.mend.strip("\n"), _MARGIN + "    ")
    return f"  {label:<7} {remark.headline}\n{why}\n\n{mend}\n"


# ---- the parts of an examination


def _broker_away(app: AppFacts, trouble: tuple[str, str]) -> Remark:
    why, remedy = trouble
    return _finding("broker-away", broker=app.broker, why=why, remedy=remedy)


def _redis(says: Mapping[str, str], event_bytes: int) -> Iterator[Remark]:
    connected, most = says.get("connected_clients"), says.get("maxclients")
    if connected and most:
        full = int(connected) >= _NEARLY_ALL * int(most)
        key, wanted = "redis-clients", 2 * int(most)
        if full:
            yield _finding(key, connected=connected, most=most, wanted=wanted)
        else:
            yield _fine(key, connected=connected, most=most)
    else:
        yield _unknown("redis-unasked", what="maxclients")
    yield from _redis_buffer(says.get("client-output-buffer-limit", ""), event_bytes)
    policy, maxmemory = says.get("maxmemory_policy"), says.get("maxmemory", "0")
    if policy and policy != "noeviction" and maxmemory != "0":
        yield _finding("redis-evicts", policy=policy)
    elif policy:
        shown = "unlimited" if maxmemory == "0" else maxmemory
        yield _fine("redis-memory", policy=policy, maxmemory=shown)
    else:
        yield _unknown("redis-unasked", what="maxmemory-policy")


def _redis_buffer(limits: str, event_bytes: int) -> Iterator[Remark]:
    words = limits.split()
    if "pubsub" not in words:
        yield _unknown("redis-unasked", what="client-output-buffer-limit")
        return
    at = words.index("pubsub") + 1
    hard, soft, seconds = map(int, words[at : at + 3])
    shown = f"{hard} {soft} {seconds}"
    # Zero is no limit. An event and its reply must fit, and Redis' default is 32 MB and 8 MB.
    if 0 < hard < 2 * event_bytes or 0 < soft < event_bytes:
        wanted = f"{max(32 << 20, 8 * event_bytes)} {max(8 << 20, 2 * event_bytes)} 60"
        yield _finding("redis-buffer", shown=shown, event=event_bytes, wanted=wanted)
    else:
        yield _fine("redis-buffer", shown=shown)


def _processes(app: AppFacts, seen: StreamFacts) -> Iterator[Remark]:
    theirs = seen.told.get("broker", app.broker)
    if theirs != app.broker:
        yield _finding("other-broker", theirs=theirs, ours=app.broker)
    elif app.is_memory:
        several = seen.told.get("several") or len(seen.pids) > 1
        yield _finding("memory-several" if several else "memory")
    elif seen.told:
        yield _fine("same-broker")


def _wrong_answer(seen: StreamFacts) -> str | None:
    if seen.status != _OK:
        return _STATUSES.get(seen.status or 0, "failed")
    is_stream = seen.content_type.partition(";")[0].strip().lower() == "text/event-stream"
    return None if is_stream else "not-a-stream"


def _delivery(app: AppFacts, seen: StreamFacts, known: Mapping[str, Any]) -> Iterator[Remark]:
    if seen.garbled:
        yield _finding("garbled", **known)
        return
    if seen.told.get("sent_away") or _ended_at_once(seen):
        yield _sent_away(app, seen)
        return
    if seen.plain_s is not None:
        yield _finding("gzip", **known, plain=seen.plain_s)
        return
    if seen.flushed or (not seen.opened and not seen.ended):
        yield _finding("buffered" if seen.flushed or seen.opened else "withheld", **known)
        return
    if not seen.opened or (seen.ended and seen.probed and seen.probe_s is None):
        yield _finding("cut", **known)
        return
    yield _fine("opens")
    if seen.trouble is not None:
        yield _broker_away(app, seen.trouble)
    elif seen.probe_s is not None:
        yield _fine("probe", after=seen.probe_s)
    elif seen.probed and seen.told.get("broker", app.broker) == app.broker:
        yield _finding("lost-probe", **known, ours=app.broker)
    if seen.is_compressed:
        yield _fine("gzip")
    yield from _silence(seen, known)


def _silence(seen: StreamFacts, known: Mapping[str, Any]) -> Iterator[Remark]:
    lifetime_s = known["lifetime"]
    if seen.beat:
        yield _fine("heartbeat", silent=seen.silent_s)
    elif not seen.ended:
        yield _finding("no-heartbeat", **known)
    elif seen.ended != "cut" and lifetime_s and seen.stayed_s >= _SHORTEST_LIFE * lifetime_s:
        yield _fine("lifetime", lifetime=lifetime_s)
    else:
        # A third of what the way bears, and twice what the app needs: room for a busy moment.
        yield _finding(
            "cut-idle",
            **known,
            lower=max(round(seen.silent_s / 3, 1), 0.1),
            higher=max(60.0, 2 * known["heartbeat"]),
        )


def _ended_at_once(seen: StreamFacts) -> bool:
    in_order = seen.ended in ("finished", "closed")
    return seen.opened and in_order and seen.probe_s is None and seen.silent_s < _AT_ONCE_S


def _sent_away(app: AppFacts, seen: StreamFacts) -> Remark:
    why = seen.told.get("sent_away")
    held = seen.told.get("held")
    if held:
        return _finding("sent-away", why=f"{why}: {held}", mend=_mend_held(held, app.app))
    if why:
        return _finding("sent-away", why=why, mend=_mend_sent_away(why, app.app))
    why = "The process holds as many streams as it may, or is just stopping"
    return _finding("sent-away", why=why, mend=_mend_sent_away("", app.app))


def _mend_sent_away(why: str, app: str) -> str:
    if "--enable-threads" in why:
        return _mend_held(why, app)
    return (
        "ulimit -n 65536    # before the server is started; systemd: LimitNOFILE=65536\n"
        "SSE_MAX_STREAMS = 20000    # if it is set"
    )


def _holding(app: AppFacts, seen: StreamFacts) -> Iterator[Remark]:
    told = seen.told
    if not told:
        yield _unknown("not-told")
        return
    if told.get("uvloop") is False and not app.lacks_uvloop:
        yield _finding("no-uvloop")
    if told.get("sent_away"):
        return
    held, server = told.get("held"), told.get("server") or "the server"
    if not held:
        yield _fine("handed-off", server=server)
        return
    threads = told.get("threads")
    many = isinstance(threads, int) and threads >= _MANY_THREADS
    room = "How many streams fit is not known, so one it is."
    if isinstance(threads, int):
        room = f"Of {threads} in each process, streams get {max(threads // 2, 1)}."
    mend = _mend_held(held, app.app)
    key = "held-many" if many else "held"
    yield _finding(key, server=server, why=held, room=room, mend=mend)


def _mend_held(why: str, app: str) -> str:
    text = next(mend for sign, mend in HELD if sign in why)
    return text.strip("\n").format(app=app)


# ---- words


def _known(app: AppFacts, seen: StreamFacts) -> dict[str, Any]:
    proof = ""
    if seen.flooded:
        proof = ", and came when much more was sent" if seen.flushed else ", nor with much more"
    return {
        "app": app.app,
        "path": app.path,
        "url": seen.url,
        "host": seen.host,
        "port": seen.port,
        "should_be": seen.should_be,
        "channel": seen.channel,
        "waited": seen.waited_s,
        "status": seen.status,
        "content_type": seen.content_type or "not said",
        "location": seen.location or "nowhere",
        "after": seen.answered_s,
        "silent": seen.silent_s,
        "heartbeat": float(seen.told.get("heartbeat_s", app.heartbeat_s)),
        "lifetime": float(seen.told.get("lifetime_s", app.lifetime_s)),
        "proof": proof,
    }


def _finding(key: str, **seen: Any) -> Remark:
    finding = FINDINGS[key]
    shown = {name: _printable(value) for name, value in seen.items()}
    why = finding.why.format(**shown)
    return Remark(
        finding.level,
        finding.headline.format(**shown),
        why[:1].upper() + why[1:],
        finding.mend.format(**shown),
    )


def _fine(key: str, **seen: Any) -> Remark:
    shown = {name: _printable(value) for name, value in seen.items()}
    return Remark(None, FINE[key].format(**shown))


def _unknown(key: str, **seen: Any) -> Remark:
    return Remark(Level.UNKNOWN, FINE[key].format(**seen))


def _printable(value: Any) -> Any:
    """What a server says of itself must not steer the terminal."""
    if not isinstance(value, str):
        return value
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in value)
