"""May this request open a stream, and of what? The one room that answers that.

The order is the same for GET, HEAD and whatever other method a route of the application's own has:

1. ``OPTIONS`` opens no stream: it is answered before anybody is asked.
2. The guards of the EventStream (`EventStream.before_request`) are asked, each once.
3. Where the view chose the channels, ``sse.stream("orders:42")``, it has decided: rules are not
   asked.
4. Where the query has a link (`EventStream.url`), that decides: of exactly its channels. Rules are
   not asked.
5. Otherwise the query names the channels, and the rules of the application decide (
   `EventStream.channel`): of all its EventStreams, since they share its log. Without any rule
   everybody may read everything. With the first one a channel that falls under no rule is closed,
   but for the doctor's own, to the doctor.

A stream of several channels is opened whole or not at all. In doubt nobody gets in.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Flask, Request, Response

from flask_eventstream.access.grant import Grant
from flask_eventstream.access.links import QUERY, Link
from flask_eventstream.access.rules import Match, Rules
from flask_eventstream.access.ticket import is_own_channel
from flask_eventstream.app.asked import channels_asked, is_doctor, why_too_long
from flask_eventstream.app.by_link import link_asked
from flask_eventstream.app.guards import ask
from flask_eventstream.app.moment import note_moment
from flask_eventstream.app.protection import rules_of
from flask_eventstream.app.registry import registry_of, say_once
from flask_eventstream.brokers import check_channel
from flask_eventstream.errors import InvalidChannel, InvalidGrant
from flask_eventstream.hub.request import Reader
from flask_eventstream.state import AppState

__all__ = ["Right", "decide"]

_LOGGER = logging.getLogger("flask_eventstream")


@dataclass(frozen=True, slots=True)
class Right:
    """What a request may read. Never logged whole: `info` may be anything of a person."""

    channels: tuple[str, ...]
    """Sorted, each once; at least one."""
    subject: str | None = None
    """Who reads."""
    info: Mapping[str, Any] | None = None
    """What the other members of its channels see of it."""
    until: float | None = None
    """When the right ends, in seconds since 1970; ``None`` is never."""
    history: bool = True
    """False where it begins with what comes from now on, whatever id the reader shows."""
    position: str | None = None
    """Where a reader begins who shows no id: where the log stood when its link was made."""
    by_link: bool = False
    """True where a link gave it: who comes back later than ``until`` is told that it is over."""

    def reader(self, address: str | None) -> Reader:
        """Who reads, as the hub knows it, from where; each call is another stream."""
        return Reader(subject=self.subject, expires_at=self.until, address=address)


def decide(
    app: Flask, request: Request, stream: Any, *, chosen: Sequence[object] = ()
) -> Right | Response:
    """What a request may read, or the answer that refuses it.

    Runs guards and rules, on the request's thread.

    Args:
        app: The application.
        request: The request.
        stream: The application's EventStream that is to serve it.
        chosen: The channels that the view chose, if it did.

    Raises:
        HTTPException: A guard or a rule aborted.
        TypeError: A rule returned what is no decision.
        InvalidChannel: The application's rules contradict each other.
        InvalidGrant: Two rules take the reader for two different ones.
    """
    if request.method == "OPTIONS":
        return app.make_default_options_response()
    guards = stream._guards_in(app)  # noqa: SLF001  of this package
    state: AppState = stream._state(app)  # noqa: SLF001  the same
    rules = rules_of(app)
    if guards or chosen or rules is not None or QUERY in request.args:
        note_moment(state, request)
    answer = ask(app, request, guards)
    if answer is not None:
        return app.make_response(answer)
    too_long = why_too_long(state, request)
    if too_long is not None:
        return _refuse(app, 400, too_long)
    link = None if chosen else link_asked(app, state, request)
    if link is not None:
        return link if isinstance(link, Response) else _by_link(link)
    if rules is None and not guards:
        _say_open(app, stream, state)
    if chosen or _is_doctors(app, state, request):
        rules = None
    return _of_channels(app, state, chosen or channels_asked(request), rules)


def _of_channels(
    app: Flask, state: AppState, channels: Sequence[object], rules: Rules | None
) -> Right | Response:
    """The right to these, where the rules say so, if there are any to be asked."""
    try:
        names = _names(channels)
        state.admission.check_channels(len(names))
    except InvalidChannel as error:
        return _refuse(app, 400, str(error))
    return Right(names) if rules is None else _by_rules(app, rules, names)


def _by_link(link: Link) -> Right:
    return Right(
        link.channels,
        subject=link.subject,
        info=link.info,
        until=link.until,
        position=link.position,
        by_link=True,
    )


def _is_doctors(app: Flask, state: AppState, request: Request) -> bool:
    """True where the doctor wants its own events, which no rule can know of."""
    return all(map(is_own_channel, channels_asked(request))) and is_doctor(app, state, request)


def _by_rules(app: Flask, rules: Rules, channels: tuple[str, ...]) -> Right | Response:
    grants = {}
    for channel in channels:
        match = rules.match(channel)
        grant = None if match is None else _ask_rule(app, match)
        if grant is None:
            why = "no rule fits it" if match is None else f"rule {match.rule.pattern!r} said no"
            _LOGGER.info("A stream of channel %r was refused: %s", channel, why)
            return _refuse(app, 403, f"channel {channel!r}: you may not read it")
        grants[channel] = grant
    return _together(channels, grants)


def _ask_rule(app: Flask, match: Match) -> Grant | None:
    """What the rule gives, or ``None`` where that is nothing."""
    rule = match.rule
    answer = app.ensure_sync(rule.decide)(**match.values)
    if answer is True:
        return Grant()
    if answer is False:
        return None
    if isinstance(answer, Grant):
        return answer if answer.until is None or answer.until > time.time() else None
    what = "None: does it lack a return?" if answer is None else f"a {type(answer).__name__}"
    raise TypeError(
        f"the rule of channels {rule.pattern!r}, {rule.name}, must return True, False or a Grant,"
        f" and returned {what}"
    )


def _together(channels: tuple[str, ...], grants: Mapping[str, Grant]) -> Right:
    """The right to read all of them on one stream, which has one reader and one end."""
    subjects = {grant.subject: name for name, grant in grants.items() if grant.subject is not None}
    if len(subjects) > 1:
        of = ", ".join(f"{subject!r} of {name!r}" for subject, name in subjects.items())
        why = f"a stream has one reader, and the rules of its channels gave {of}"
        raise InvalidGrant("subject", next(iter(subjects)), why)
    ends = [grant.until for grant in grants.values() if grant.until is not None]
    infos = [grant.info for grant in grants.values() if grant.info is not None]
    return Right(
        channels,
        subject=next(iter(subjects), None),
        info=infos[0] if infos else None,
        until=min(ends, default=None),
        history=all(grant.history for grant in grants.values()),
    )


def _names(channels: Sequence[object]) -> tuple[str, ...]:
    return tuple(sorted({check_channel(channel) for channel in channels}))


def _refuse(app: Flask, status: int, why: str) -> Response:
    return app.response_class(f"{why}\n", status, mimetype="text/plain")


def _say_open(app: Flask, stream: Any, state: AppState) -> None:
    """Warn, once, of a stream that everybody may read."""
    guarded = [other.name for other in registry_of(app).streams if other._guards_in(app)]  # noqa: SLF001
    if guarded:
        say_once(
            app,
            "EventStream %r has no guard, and it serves the same channels as %s, which has one:"
            " add @before_request to both",
            stream.name,
            guarded[0],
        )
    elif not state.config.public:
        more = ""
        if state.config.broker_key == "REDIS_URL":
            more = f" of the Redis server that REDIS_URL names ({state.broker.url})"
        say_once(
            app,
            "EventStream %r has no rule and no guard: who may open it may read every channel%s."
            " Add a function with @%s.channel(PATTERN), or set SSE_PUBLIC = True",
            stream.name,
            more,
            stream.name,
        )
