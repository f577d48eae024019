"""What every broker does for processes that say what they have of channels."""

from __future__ import annotations

from typing import Any

import pytest

from brokers.stores import Store
from flask_eventstream.brokers import HasShares

pytestmark = pytest.mark.real

TEXT = '[2, ["üsér"]]'


def test_every_broker_has_shares(broker: Any) -> None:
    """No broker of ours lacks them."""
    assert isinstance(broker, HasShares)


def test_what_processes_say_is_heard(store: Store) -> None:
    """What two owners say of a channel another connection hears, word for word, of no other."""
    one: Any = store.open()
    two: Any = store.open()
    other: Any = store.open_other()

    assert one.share("p1", {"a": TEXT, "b": "[1]"}, for_s=30, whole=True)
    assert two.share("p2", {"a": "[7]"}, for_s=30, whole=True)

    assert sorted(store.open().shares("a")) == [TEXT, "[7]"]  # type: ignore[attr-defined]
    assert list(two.shares("b")) == ["[1]"]
    assert list(two.shares("c")) == []
    assert list(other.shares("a")) == []


def test_a_change_leaves_the_rest(broker: Any) -> None:
    """A change replaces or takes away what it names; the whole replaces all."""
    broker.share("p1", {"a": "1", "b": "2", "c": "3"}, for_s=30, whole=True)

    assert broker.share("p1", {"a": "4", "b": ""}, for_s=30)
    assert [list(broker.shares(name)) for name in "abc"] == [["4"], [], ["3"]]

    broker.share("p1", {"b": "5"}, for_s=30, whole=True)
    assert [list(broker.shares(name)) for name in "abc"] == [[], ["5"], []]


def test_a_dead_process_is_not_heard(store: Store) -> None:
    """What was not said again in its time is gone, and its owner has to say the whole."""
    broker: Any = store.open()
    broker.share("dead", {"a": "1"}, for_s=30, whole=True)
    broker.share("living", {"a": "2"}, for_s=30, whole=True)
    store.clock.advance(20)
    assert broker.share("living", {}, for_s=30)
    store.clock.advance(20)

    assert list(broker.shares("a")) == ["2"]
    assert not broker.share("dead", {"b": "1"}, for_s=30)
    assert list(broker.shares("b")) == []


def test_who_has_nothing_to_say_lives(store: Store) -> None:
    """An owner whose last channel is gone needs not say the whole again."""
    broker: Any = store.open()
    broker.share("p1", {"a": "1"}, for_s=30, whole=True)

    assert broker.share("p1", {"a": ""}, for_s=30)
    assert broker.share("p1", {"b": "1"}, for_s=30)


def test_goodbye(broker: Any) -> None:
    """An owner that takes its leave is not heard any more; to do it twice does no harm."""
    broker.share("p1", {"a": "1"}, for_s=30, whole=True)
    broker.share("p2", {"a": "2"}, for_s=30, whole=True)

    broker.unshare("p1")
    broker.unshare("p1")

    assert list(broker.shares("a")) == ["2"]
    assert not broker.share("p1", {}, for_s=30)
