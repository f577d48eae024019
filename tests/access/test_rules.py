"""`access.rules`: which rule a channel falls under."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from werkzeug.routing import BaseConverter

from flask_eventstream.access.rules import ChannelRule, Rules
from flask_eventstream.errors import InvalidChannel


def allow(**_values: object) -> bool:
    return True


def rules(*patterns: str, **converters: type[BaseConverter]) -> Rules:
    return Rules(
        tuple(ChannelRule(pattern, allow, {}) for pattern in patterns), converters=converters
    )


def found(made: Rules, channel: str) -> tuple[str, dict[str, Any]] | None:
    match = made.match(channel)
    return match and (match.rule.pattern, dict(match.values))


@pytest.mark.parametrize(
    ("pattern", "channel", "values"),
    [
        ("news", "news", {}),
        ("orders:<int:order_id>", "orders:42", {"order_id": 42}),
        ("user/<name>/inbox", "user/a b/inbox", {"name": "a b"}),
        ("any:<path:rest>", "any:a/b//c", {"rest": "a/b//c"}),
        ("price:<float:limit>", "price:1.5", {"limit": 1.5}),
        ("café:<x>", "café:é", {"x": "é"}),
        ("a:<x>", "a:100%25", {"x": "100%25"}),
        ("a:<x>", "a:?b#c;d", {"x": "?b#c;d"}),
    ],
)
def test_a_name_says_its_values(pattern: str, channel: str, values: dict[str, object]) -> None:
    """A channel that a pattern fits falls under its rule, with the values of the converters."""
    assert found(rules(pattern), channel) == (pattern, values)


@pytest.mark.parametrize(
    ("pattern", "channel"),
    [
        ("orders:<int:order_id>", "orders:042"),
        ("orders:<int:order_id>", "orders:٤٢"),
        ("orders:<int:order_id>", "orders:-1"),
        ("orders:<int:order_id>", "orders:%34%32"),
        ("orders:<int:order_id>", "orders:"),
        ("price:<float:limit>", "price:1.50"),
        ("user:<name>", "user:a/b"),
        *(
            ("news", name)
            for name in (
                "News",
                "news ",
                " news",
                "news/",
                "/news",
                "//news",
                "n%65ws",
                "news?x",
                "news\u200b",
                "\uff4eews",
            )
        ),
        ("café", unicodedata.normalize("NFD", "café")),
    ],
)
def test_another_name_is_another_channel(pattern: str, channel: str) -> None:
    """Names that differ in case, form, encoding, slashes or zeros fall under no rule."""
    assert found(rules(pattern), channel) is None


@given(st.text(min_size=1, max_size=20))
@example("/news")
@example("news/")
def test_only_the_name_itself(channel: str) -> None:
    """Of all names only one is the name of a rule without values."""
    assert (rules("news").match(channel) is not None) == (channel == "news")


@given(st.text(min_size=1, max_size=20))
def test_any_name_is_bounded(channel: str) -> None:
    """No name makes matching raise, and what matched is written by its values alone."""
    match = rules("<int:number>:<name>", "x<path:rest>").match(channel)
    if match is not None and "rest" in match.values:
        assert channel == f"x{match.values['rest']}"
    elif match is not None:
        assert channel == f"{match.values['number']}:{match.values['name']}"


def test_the_more_specific_rule_counts() -> None:
    """Of two rules that fit, the more specific one is asked, in whichever order they came."""
    for patterns in (("<name>", "news"), ("news", "<name>")):
        assert found(rules(*patterns), "news") == ("news", {})
        assert found(rules(*patterns), "other") == ("<name>", {"name": "other"})


def test_converters_of_the_application() -> None:
    """A converter of the application gives its own values, and holds for its own writing alone."""

    class Upper(BaseConverter):
        regex = "[A-Za-z]+"

        def to_python(self, value: str) -> str:
            return value.upper()

    made = rules("room:<upper:name>", upper=Upper)

    assert found(made, "room:RED") == ("room:<upper:name>", {"name": "RED"})
    assert found(made, "room:red") is None


def test_a_converter_that_refuses() -> None:
    """A value that a converter refuses fits no rule."""
    made = rules("day:<int(max=31):day>")

    assert found(made, "day:31") is not None
    assert found(made, "day:32") is None


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("orders:<int:order_id", "malformed"),
        ("orders:<number:order_id>", "does not exist"),
        ("a<x>b<x>", "duplicate"),
        ("", "orders:<int:order_id>"),
        (42, "orders:<int:order_id>"),
        ("__control", "begins with __"),
    ],
)
def test_a_pattern_that_is_none(pattern: Any, why: str) -> None:
    """What can't be a pattern is refused by name, with the reason."""
    with pytest.raises(InvalidChannel, match=why):
        rules(pattern)


def test_without_rules() -> None:
    """Without a rule there is nothing to ask, and no channel falls under one."""
    assert not rules()
    assert rules("news")
    assert rules().match("news") is None
