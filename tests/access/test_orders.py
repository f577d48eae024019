"""Orders as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_eventstream.access.orders import BEGIN, Order, revocation_of


@given(st.text() | st.none(), st.text() | st.none())
def test_an_order_is_read_as_it_was_written(channel: str | None, subject: str | None) -> None:
    """Whatever names are in it, an order survives; one without any is none."""
    order = Order(channel, subject)

    assert Order.decode(order.encode()) == (None if channel is subject is None else order)


@given(st.text())
def test_any_text_may_come(text: str) -> None:
    """Whatever a control entry says, reading it raises nothing."""
    Order.decode(text)


@pytest.mark.parametrize(
    "text",
    [
        *(BEGIN, "", "null", "[]", "1", '"do"', "{" * 100_000),
        '{"do": "disconnect"}',
        '{"do": "disconnect", "channel": null}',
        '{"do": "disconnect", "channel": 1}',
        '{"do": "disconnect", "channel": "a", "subject": {}}',
        '{"do": "something", "channel": "a"}',
    ],
)
def test_what_is_no_order(text: str) -> None:
    """Texts of other meanings, or of none."""
    assert Order.decode(text) is None


@given(st.text(max_size=200))
def test_a_records_name_has_plain_letters(subject: str) -> None:
    """Any subject has a record's name that every broker can have."""
    name = revocation_of(subject)

    assert name.replace("-", "").isalnum()
    assert name.isascii()
    assert len(name) <= 100
