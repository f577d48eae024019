"""The part of an `EventStream` that says who may read: its guards, and its rules of channels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from flask import Flask, Request, Response, request

from flask_eventstream.access.rules import ChannelRule, Rules, check_pattern
from flask_eventstream.app.caches import keep_out_of_caches
from flask_eventstream.app.cors import allow_origin
from flask_eventstream.app.guards import Guard, Guards, ask
from flask_eventstream.app.moment import note_moment
from flask_eventstream.app.registration import Registration
from flask_eventstream.app.registry import registry_of
from flask_eventstream.app.rule_book import RuleBook
from flask_eventstream.errors import InvalidChannel

__all__ = ["Protection", "current_request", "rules_of"]

_Function = TypeVar("_Function", bound=Callable[[], Any])
_Rule = TypeVar("_Rule", bound=Callable[..., Any])


class Protection(Registration):
    """Whom an `EventStream` asks before it opens a stream."""

    def _begin(self) -> None:
        super()._begin()
        self._guards = Guards()
        self._rules = RuleBook()
        super().before_request(self._ask_guards)
        super().after_request(self._answered)

    def before_request(self, f: _Function) -> _Function:
        """Register a guard: it runs before each stream is opened; what it returns is the answer.

        It is asked by whichever route a stream is opened, `stream` in a route of your own included,
        once in a request; never for ``OPTIONS``, whose answer has no stream.

        Unlike Flask's own it may be registered at any time, also after the blueprint: a guard that
        came too late would otherwise leave every channel open to everybody. An app factory that
        registers one for each of its applications gives each application its own.

        Args:
            f: Called without arguments inside the request, on its thread. It refuses by aborting,
                or by returning what a view may return; ``None`` lets the stream open. It may be
                ``async``, with ``flask[async]``.
        """
        self._guards.add(f, self._own_guards)
        return f

    def channel(self, pattern: str, *, presence: bool = False) -> Callable[[_Rule], _Rule]:
        """Register a rule: who may read the channels that a pattern fits.

        ::

            @sse.channel("orders:<int:order_id>")
            def may_read(order_id):
                return current_user.is_authenticated and owns(current_user, order_id)

        It is asked whenever a stream of such a channel is opened by its query, whichever
        EventStream of the application serves it. With the first rule of an application every
        channel without one is closed. Of two patterns that fit the more specific one counts.

        The function is called with the pattern's values, inside the request, on its thread. It
        returns True, False, or a `Grant`; it may abort, and it may be ``async``, with
        ``flask[async]``. Anything else it returns is a `TypeError` at the request, so that nobody
        gets in by mistake.

        It may be registered at any time, as a guard may; see `before_request`.

        Args:
            pattern: With Werkzeug's converters, as in a route, or the application's own.
            presence: True where the channel tells its readers who is there.

        Raises:
            InvalidChannel: The pattern can't be one, or has another rule here already.
            TypeError: An option has a value that it can't have.
        """
        check_pattern(pattern)
        if not isinstance(presence, bool):
            raise TypeError(f"@{self.name}.channel({pattern!r}): presence is True or False")

        def register(f: _Rule) -> _Rule:
            if not callable(f):
                raise TypeError(f"@{self.name}.channel({pattern!r}) is for a function, not {f!r}")
            self._rules.add(ChannelRule(pattern, f, {"presence": presence}), self._own_rules)
            return f

        return register

    def _ask_guards(self) -> Any:
        # Flask answers by itself, and then runs no view.
        automatic = getattr(request.url_rule, "provide_automatic_options", False)
        if request.method == "OPTIONS" and automatic:
            return None
        app = self._app()
        guards = self._guards_in(app)
        if guards:
            note_moment(self._state(app), current_request())
        return ask(app, current_request(), guards)

    def _answered(self, response: Response) -> Response:
        # What a guard aborted with; routes of your own on this blueprint are your own.
        if not (request.endpoint or "").endswith(".stream"):
            return response
        allow_origin(self._state().config, current_request(), response)
        return keep_out_of_caches(response)

    def _guards_in(self, app: Flask) -> list[Guard]:
        """The guards of one application: of this object, then of `sse` where that stands for it."""
        return [
            guard
            for each in self._all_of(app)
            for guard in each._guards.of(each._own_guards(app))  # noqa: SLF001  the same class
        ]

    def _own_guards(self, app: Flask) -> list[Guard]:
        return registry_of(app).guards.setdefault(self, [])

    def _rules_in(self, app: Flask) -> Iterator[ChannelRule]:
        """The rules of one application: of this object, and of `sse` where that stands for it."""
        for each in self._all_of(app):
            yield from each._rules.of(each._own_rules(app))  # noqa: SLF001  the same class

    def _own_rules(self, app: Flask) -> dict[str, ChannelRule]:
        return registry_of(app).rules.setdefault(self, {})

    def _all_of(self, app: Flask) -> list[Protection]:
        sse = self._stands_for(app)
        return [self, sse] if isinstance(sse, Protection) else [self]


def rules_of(app: Flask) -> Rules | None:
    """The rules of all EventStreams of an application, whose log they share; ``None``: no rule.

    Raises:
        InvalidChannel: Two of them have different rules for one pattern, or a pattern has a
            converter that the application does not know.
    """
    registry = registry_of(app)
    found: dict[str, ChannelRule] = {}
    for stream in registry.streams:
        for rule in stream._rules_in(app):  # noqa: SLF001  of this package
            if found.setdefault(rule.pattern, rule) != rule:
                raise InvalidChannel(rule.pattern, "has rules on two EventStreams: keep one")
    if not found:
        return None
    rules = tuple(found.values())
    known = registry.matching
    if known is None or known.rules != rules:
        known = registry.matching = Rules(rules, converters=app.url_map.converters)
    return known


def current_request() -> Request:
    """The request of this thread itself, not Flask's stand-in for it."""
    current: Request = request._get_current_object()  # type: ignore[attr-defined]  # noqa: SLF001
    return current
