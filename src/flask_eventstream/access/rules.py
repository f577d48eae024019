"""Which rule a channel falls under, and what its name says.

A rule is a pattern with Werkzeug's converters, ``orders:<int:order_id>``, as in a route, and the
function that decides. A channel falls under one rule at the most, the most specific one.

Rules of this room: nothing of a request, no decision: that is the function's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter, Map, Rule
from werkzeug.routing.exceptions import BuildError

from flask_eventstream.errors import InvalidChannel

__all__ = ["ChannelRule", "Match", "Rules", "check_pattern"]

#: Werkzeug matches paths and strips their first slashes; behind this none of a name is first.
_ROOT = "/_/"


@dataclass(frozen=True, slots=True)
class ChannelRule:
    """What `EventStream.channel` registered."""

    pattern: str
    decide: Callable[..., Any]
    options: Mapping[str, Any]
    """What else holds for these channels."""

    @property
    def name(self) -> str:
        """The function's, for messages."""
        module = getattr(self.decide, "__module__", None)
        function = getattr(self.decide, "__qualname__", None) or type(self.decide).__name__
        return f"{module}.{function}" if module else function


@dataclass(frozen=True, slots=True)
class Match:
    """The rule of a channel, and the values that its name has for the rule's function."""

    rule: ChannelRule
    values: Mapping[str, Any]


class Rules:
    """The rules of one application. Not to be changed once made; any thread may ask.

    Args:
        rules: In any order: of two that fit, the more specific one counts, as in routes.
        converters: Beside Werkzeug's own, as in ``app.url_map.converters``.

    Raises:
        InvalidChannel: A pattern can't be one; names it, and why.
    """

    def __init__(
        self,
        rules: tuple[ChannelRule, ...],
        *,
        converters: Mapping[str, type[BaseConverter]] | None = None,
    ) -> None:
        # Nothing of what routes forgive: a name that is a slash longer is another channel.
        routes = Map(
            converters=converters, strict_slashes=True, merge_slashes=False, redirect_defaults=False
        )
        for number, rule in enumerate(rules):
            _check_name(rule.pattern)
            try:
                routes.add(Rule(_ROOT + rule.pattern, endpoint=number))
            except (LookupError, ValueError, TypeError, SyntaxError) as error:
                raise InvalidChannel(rule.pattern, f"is no pattern of channels: {error}") from error
        self._routes = routes.bind("")
        self.rules = rules

    def __bool__(self) -> bool:
        """False where nobody made a rule."""
        return bool(self.rules)

    def match(self, channel: str) -> Match | None:
        """The rule that a channel falls under; ``None`` where there is none.

        A name that the pattern would not write so (``orders:007`` for ``orders:<int:id>``) falls
        under no rule: else one order would have many channels.
        """
        path = _ROOT + channel
        try:
            number, values = self._routes.match(path)
        except HTTPException:
            return None
        try:
            written = self._routes.build(number, dict(values))
        except (BuildError, ValueError, TypeError):
            return None
        return Match(self.rules[number], values) if unquote(written) == path else None


def check_pattern(pattern: str) -> None:
    """Find mistakes in a pattern while the application's converters are not known yet.

    Raises:
        InvalidChannel: Nothing could make it a pattern.
    """
    try:
        Rules((ChannelRule(pattern, check_pattern, {}),))
    except InvalidChannel as error:
        if not isinstance(error.__cause__, LookupError):
            raise


def _check_name(pattern: object) -> None:
    if not isinstance(pattern, str) or not pattern:
        raise InvalidChannel(pattern, "is no pattern of channels: write 'orders:<int:order_id>'")
    if pattern.startswith("__"):
        raise InvalidChannel(pattern, "begins with __, as no channel's name may")
    if any(ord(character) < 32 or ord(character) == 127 for character in pattern):  # noqa: PLR2004
        raise InvalidChannel(pattern, "has a control character, as no channel's name may")
