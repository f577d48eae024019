"""The log in a SQLite file, without threads and loops: what is kept, proven and refused."""

from __future__ import annotations

import pytest

from brokers.sqlite.at_hand import Open, data, numbered, publish
from brokers.stores import Clock
from flask_eventstream.event import Event
from flask_eventstream.log.entries import Retention

pytestmark = pytest.mark.real


def test_a_log_outlives_its_connections(open_log: Open) -> None:
    """Events and positions are valid for whoever opens the file later."""
    log = open_log()
    first, _ = publish(log, "a", "1", "2")
    log.close()

    replay = open_log().read(["a"], first)

    assert (data(replay.entries), replay.gone) == (["2"], frozenset())


def test_news_are_what_came_since(open_log: Open) -> None:
    """A look gives the entries of the wanted channels since the last, and where the log stands."""
    log = open_log()
    publish(log, "a", "1")
    since = log.head
    publish(log, "a", "2")
    publish(log, "b", "3")

    news = log.news({"a"}, since)

    assert data(news.entries) == ["2"]
    assert (news.gone, news.head, news.more) == (frozenset(), log.head, False)


def test_many_news_come_in_parts(open_log: Open) -> None:
    """A look after a long time gives all of it, part by part."""
    log = open_log(Retention(length=5000))
    log.append("a", [Event(text) for text in numbered(2500)])
    since, seen, more = 0, [], True
    while more:
        news = log.news({"a"}, since)
        seen += data(news.entries)
        since, more = news.head, news.more

    assert numbered(2500) == seen


def test_trimmed_news_are_reported(open_log: Open, clock: Clock) -> None:
    """A look that comes too late for some entries says of which channels they were.

    Also when an old event of a calm channel still lies before them in the file.
    """
    log = open_log(Retention(length=10))
    publish(log, "calm", "0")
    since = log.head
    for _ in range(3):
        publish(log, "busy", *numbered(100))
        clock.advance(11)

    news = log.news({"busy", "calm"}, since)

    assert news.gone == {"busy"}
    assert log.news({"calm"}, since).gone == frozenset()


def test_news_are_reported_gone_once(open_log: Open) -> None:
    """When everything since the last look was removed, it is reported by one look and no more."""
    log = open_log(Retention(age_s=60))
    publish(log, "keep", "x")
    since = log.head
    publish(log, "a", *numbered(3))
    with log._writing():
        log._trimming._remove("a", log.head)

    first = log.news({"a"}, since)
    second = log.news({"a"}, first.head)

    assert (first.gone, second.gone) == ({"a"}, frozenset())
    assert first.head == log.head
