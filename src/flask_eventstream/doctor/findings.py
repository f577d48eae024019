"""What is wrong, from what was seen.

No socket, no clock, no broker: facts in, findings out. probe.py sees, remedies.py has the words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

from flask_eventstream.doctor.facts import LONGEST_HEARTBEAT_S, AppFacts, StreamFacts
from flask_eventstream.doctor.redis_limits import examine_redis
from flask_eventstream.doctor.remedies import BACK_AT_NGINX, HELD, SOCKET_UNIT
from flask_eventstream.doctor.report import Remark, escape, fine, problem, quote, unknown

__all__ = ["examine_app", "examine_stream"]

#: A stream holds a thread where nothing better is to be had. Below this many threads, half of
#: which may hold streams, a class of pupils is too much for one process.
_MANY_THREADS = 100

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

#: What an application's streams say of caches and of what changes them on the way.
_CACHE_CONTROL = ("no-store", "no-transform")

_COOKIE = '--header "Cookie: session=…"'


def examine_app(app: AppFacts) -> Iterator[Remark]:
    """What is wrong, or fine, with the application alone."""
    if app.trouble is not None:
        yield _broker_away(app, app.trouble)
    elif app.takes_events and not app.is_memory:
        yield fine("broker", broker=app.broker)
    yield problem("no-uvloop") if app.lacks_uvloop else fine("uvloop")
    if app.redis is not None:
        yield from examine_redis(app.redis, app.max_event_bytes)


def examine_stream(app: AppFacts, seen: StreamFacts) -> Iterator[Remark]:
    """What is wrong, or fine, with the stream at an address."""
    known = _known(app, seen)
    if seen.failure is not None:
        key, why = seen.failure
        yield problem(key, **known, why=why)
        return
    if not seen.answers:
        yield problem("no-answer", **known)
        return
    yield from _processes(app, seen)
    if seen.status is None:
        yield problem("buffered" if seen.flushed else "withheld", **known)
        return
    wrong = _wrong_answer(seen)
    if wrong is not None:
        yield problem(wrong, **known, mend=_mend_answer(wrong, seen))
        return
    yield fine("answer", **known)
    yield from _delivery(app, seen, known)
    yield from _holding(app, seen)
    yield from _way(seen, known)


# ---- the parts of an examination


def _broker_away(app: AppFacts, trouble: tuple[str, str]) -> Remark:
    why, remedy = trouble
    mend = "\n".join(escape(line) for line in remedy.splitlines())
    return problem("broker-away", broker=app.broker, why=why, mend=mend)


def _processes(app: AppFacts, seen: StreamFacts) -> Iterator[Remark]:
    theirs = seen.told.get("broker", app.broker)
    if theirs != app.broker:
        yield problem("other-broker", theirs=theirs, ours=app.broker)
    elif app.is_memory:
        several = seen.told.get("several") or len(seen.pids) > 1 or len(seen.epochs) > 1
        yield problem("memory-several" if several else "memory")
    elif seen.told:
        yield fine("same-broker")


def _wrong_answer(seen: StreamFacts) -> str | None:
    if seen.status != _OK:
        return _STATUSES.get(seen.status or 0, "failed")
    is_stream = seen.content_type.partition(";")[0].strip().lower() == "text/event-stream"
    return None if is_stream else "not-a-stream"


def _delivery(app: AppFacts, seen: StreamFacts, known: Mapping[str, Any]) -> Iterator[Remark]:
    wrong = _wrong_body(app, seen, known)
    if wrong is not None:
        yield wrong
        return
    yield fine("opens")
    if seen.trouble is not None:
        yield _broker_away(app, seen.trouble)
    elif seen.probe_s is not None:
        yield fine("probe", after=seen.probe_s)
    elif seen.probed and seen.told.get("broker", app.broker) == app.broker:
        yield problem("lost-probe", **known, ours=app.broker)
    if seen.encoding:
        yield fine("gzip")
    yield _silence(app, seen, known)


def _wrong_body(app: AppFacts, seen: StreamFacts, known: Mapping[str, Any]) -> Remark | None:
    """Why the stream did not open, or does not pass an event on; ``None`` where it does."""
    lost = bool(seen.ended) and seen.probed and seen.probe_s is None
    signs = {
        "broken": bool(seen.broken),
        "garbled": seen.garbled,
        "resting": seen.only_retry,
        "sent-away": bool(seen.told.get("sent_away")) or _ended_at_once(seen),
        "gzip": seen.plain_s is not None,
        "buffered": seen.flushed,
        "withheld": not seen.opened and not seen.ended,
        "cut": not seen.opened or lost,
    }
    key = next((key for key, sign in signs.items() if sign), None)
    if key == "sent-away":
        return _sent_away(app, seen)
    return None if key is None else problem(key, **known, why=seen.broken, plain=seen.plain_s)


def _silence(app: AppFacts, seen: StreamFacts, known: Mapping[str, Any]) -> Remark:
    heartbeat_s, lifetime_s = seen.heartbeat_s(app), seen.lifetime_s(app)
    if seen.beat:
        return fine("heartbeat", silent=seen.silent_s)
    if not seen.ended and heartbeat_s > LONGEST_HEARTBEAT_S:
        return problem("slow-heartbeat", **known)
    if not seen.ended:
        return problem("no-heartbeat", **known)
    if seen.ended != "cut" and lifetime_s and seen.stayed_s >= _SHORTEST_LIFE * lifetime_s:
        return fine("lifetime", lifetime=lifetime_s)
    # A third of what the way bears, and twice what the app needs: room for a busy moment.
    lower, higher = max(round(seen.silent_s / 3, 1), 0.1), max(60.0, 2 * heartbeat_s)
    return problem("cut-idle", **known, lower=lower, higher=higher)


def _ended_at_once(seen: StreamFacts) -> bool:
    in_order = seen.ended in ("finished", "closed")
    return seen.opened and in_order and seen.probe_s is None and seen.silent_s < _AT_ONCE_S


def _sent_away(app: AppFacts, seen: StreamFacts) -> Remark:
    why, held = seen.told.get("sent_away"), seen.told.get("held")
    if held:
        return problem("sent-away", why=f"{why}: {held}", mend=_mend_held(held, app.app))
    if why and any(sign in why for sign, _ in HELD if sign):
        return problem("sent-away", why=why, mend=_mend_held(why, app.app))
    return problem(
        "sent-away", why=why or "The process holds as many streams as it may, or is just stopping"
    )


def _holding(app: AppFacts, seen: StreamFacts) -> Iterator[Remark]:
    told = seen.told
    if not told:
        yield unknown("not-told")
        return
    if told.get("uvloop") is False and not app.lacks_uvloop:
        yield problem("no-uvloop")
    if told.get("sent_away"):
        return
    held, server = told.get("held"), told.get("server") or "the server"
    if not held:
        yield fine("handed-off", server=server)
        return
    threads = told.get("threads")
    many = isinstance(threads, int) and threads >= _MANY_THREADS
    room = "How many streams fit is not known, so one it is."
    if isinstance(threads, int):
        room = f"Of {threads} in each process, streams get {max(threads // 2, 1)}."
    mend = _mend_held(held, app.app)
    yield problem("held-many" if many else "held", server=server, why=held, room=room, mend=mend)


def _way(seen: StreamFacts, known: Mapping[str, Any]) -> Iterator[Remark]:
    """What lies between the application and its readers, today and at the next restart."""
    said = seen.cache_control.lower().replace(" ", "").split(",")
    if not {*_CACHE_CONTROL} <= {*said}:
        yield problem("cache-control", **known, wanted=", ".join(_CACHE_CONTROL))
    if seen.proxy:
        at_nginx = "nginx" in seen.proxy or "openresty" in seen.proxy
        yield problem("restart", **known, mend=BACK_AT_NGINX if at_nginx else SOCKET_UNIT)
    if seen.offers_http2:
        yield fine("http2")
    else:
        yield problem("six-tls" if seen.is_tls else "six", **known)


# ---- lines that mend, where they depend on what was seen


def _mend_held(why: str, app: str) -> str:
    text = next(mend for sign, mend in HELD if sign in why)
    return text.format(app=app)


def _mend_answer(wrong: str, seen: StreamFacts) -> str:
    if wrong == "forbidden":
        return _mend_refusal(seen)
    if wrong == "redirect":
        there = _follow(seen)
        follow = f"flask sse doctor {quote(there)}\n" if there else ""
        return f"{follow}{_ask(seen, _COOKIE)}    # as a user who is logged in"
    return ""


def _mend_refusal(seen: StreamFacts) -> str:
    """Each option that was not given yet, alone, and all together: a rule may want either."""
    channel = "--channel a-channel-that-the-user-may-read"
    if seen.has_headers and not seen.is_own_channel:
        return f"{_ask(seen, _COOKIE, channel)}    # another user, or another channel"
    if seen.has_headers:
        return f"{_ask(seen, _COOKIE, channel)}    # a rule may allow some channels only"
    if not seen.is_own_channel:
        given = f"--channel {quote(seen.channel)}"
        return f"{_ask(seen, _COOKIE, given)}    # as a user who is logged in"
    return (
        f"{_ask(seen, _COOKIE)}    # as a user who is logged in\n"
        f"{_ask(seen, channel)}    # where all may read some channels\n"
        f"{_ask(seen, _COOKIE, channel)}    # where a user may"
    )


def _ask(seen: StreamFacts, *options: str) -> str:
    return " ".join(["flask sse doctor", *options, quote(seen.asked)])


def _follow(seen: StreamFacts) -> str | None:
    """Where a redirect leads, if that is an address of the web."""
    try:
        there = urljoin(seen.asked, seen.location)
        return there if urlsplit(there).scheme in ("http", "https") and seen.location else None
    except ValueError:
        return None


def _known(app: AppFacts, seen: StreamFacts) -> dict[str, Any]:
    proof = ""
    if seen.flooded:
        proof = ", and came when much more was sent" if seen.flushed else ", nor with much more"
    return {
        "app": app.app,
        "path": app.path,
        "url": quote(seen.url),
        "host": seen.host,
        "port": seen.port,
        "should_be": quote(seen.should_be),
        "channel": seen.channel,
        "quoted_channel": quote(seen.channel),
        "waited": seen.waited_s,
        "status": seen.status,
        "content_type": seen.content_type or "not said",
        "location": seen.location or "nowhere",
        "encoding": seen.encoding,
        "cache_control": seen.cache_control or "not said",
        "proxy": seen.proxy,
        "after": seen.answered_s,
        "silent": seen.silent_s,
        "heartbeat": seen.heartbeat_s(app),
        "proof": proof,
    }
