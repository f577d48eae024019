"""`app.rule_book`: the rules of one EventStream, and whose they are."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from flask_eventstream.access.rules import ChannelRule
from flask_eventstream.app.rule_book import RuleBook
from flask_eventstream.errors import InvalidChannel


def yes() -> bool:
    return True


def no() -> bool:
    return False


Own = dict[str, ChannelRule]


def rule(decide: Any = yes, pattern: str = "news") -> ChannelRule:
    return ChannelRule(pattern, decide, {})


def of_a_factory(book: RuleBook, added: ChannelRule, own: Own) -> Flask:
    """Register a rule where an application is at hand, as a factory does."""
    app = Flask("made")
    book.add(added, lambda _: own)
    return app


def test_a_modules_rule_is_everybodys() -> None:
    """A rule that no application is at hand for counts in each, and is kept by none."""
    book, own = RuleBook(), Own()
    book.add(rule(), lambda _: own)

    assert own == {}
    assert list(book.of({})) == [rule()]


def test_a_factorys_rule_is_its_applications() -> None:
    """Each application is asked the rule that its own factory registered."""
    book, first, second = RuleBook(), Own(), Own()
    of_a_factory(book, rule(yes), first)
    of_a_factory(book, rule(no), second)

    assert list(book.of(first)) == [rule(yes)]
    assert list(book.of(second)) == [rule(no)]


def test_who_has_none_is_asked_anothers() -> None:
    """An application without a rule of its own is not open: the last one of another counts."""
    book = RuleBook()
    of_a_factory(book, rule(yes), {})
    of_a_factory(book, rule(no), {})

    assert list(book.of({})) == [rule(no)]


def test_everybodys_rule_goes_before_anothers() -> None:
    """A rule of a module counts before the one that belongs to another application."""
    book = RuleBook()
    of_a_factory(book, rule(no), {})
    book.add(rule(yes), lambda _: {})

    assert list(book.of({})) == [rule(yes)]


def test_a_pattern_has_one_rule() -> None:
    """A second rule of a pattern is refused in words, and the first one stays."""
    book = RuleBook()
    book.add(rule(yes), lambda _: {})

    with pytest.raises(InvalidChannel, match="has a rule already"):
        book.add(rule(no), lambda _: {})

    assert list(book.of({})) == [rule(yes)]


def test_the_same_lines_again_replace_theirs() -> None:
    """A function that a reload makes anew takes the place of its earlier self."""
    book = RuleBook()
    made = [rule(lambda answer=answer: answer) for answer in (True, False)]
    for each in made:
        book.add(each, lambda _: {})

    assert list(book.of({})) == made[1:]
