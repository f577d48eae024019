"""The rules of one EventStream, whose applications may each have some of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flask import Flask

from flask_eventstream.access.rules import ChannelRule
from flask_eventstream.app.factory import app_at_hand, code_of
from flask_eventstream.errors import InvalidChannel

__all__ = ["RuleBook"]


class RuleBook:
    """What `EventStream.channel` registered: of each pattern one rule for each application.

    A rule that an app factory registers belongs to the application that it makes; one of a module
    is everybody's. An application that has neither is asked the one that was registered last, for
    another: a rule too many refuses a reader, a rule too few lets everybody in.
    """

    def __init__(self) -> None:
        self._everywhere: dict[str, ChannelRule] = {}
        self._elsewhere: dict[str, ChannelRule] = {}

    def add(self, rule: ChannelRule, belonging: Callable[[Flask], dict[str, ChannelRule]]) -> None:
        """Register a rule. ``belonging`` gives the rules that belong to an application.

        Raises:
            InvalidChannel: The pattern has another rule there.
        """
        app = app_at_hand()
        rules = self._everywhere if app is None else belonging(app)
        earlier = rules.get(rule.pattern)
        if earlier is not None and _place(earlier.decide) != _place(rule.decide):
            why = f"has a rule already, {earlier.name}: a pattern has one"
            raise InvalidChannel(rule.pattern, why)
        rules[rule.pattern] = rule
        if app is not None:
            self._elsewhere[rule.pattern] = rule

    def of(self, own: Mapping[str, ChannelRule]) -> Iterable[ChannelRule]:
        """Those that count in an application; ``own`` belong to it."""
        return {**self._elsewhere, **self._everywhere, **own}.values()


def _place(function: Callable[..., Any]) -> object:
    """Where a function is written: the same for the one that a reloaded module makes anew."""
    code = code_of(function)
    if code is None:
        return function
    return (getattr(function, "__module__", None), code.co_name, code.co_firstlineno)
