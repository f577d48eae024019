"""`app.older_flask`: generators that were lent a request's contexts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from flask import Flask, g, request, stream_with_context

from flask_eventstream.app.older_flask import take_back_contexts


@pytest.mark.parametrize("source", [["a"], iter(["a"]), (text for text in "a")])
def test_what_lent_nothing_stays(source: Any) -> None:
    """An iterable that flask did not make is the application's own, as it is."""
    assert take_back_contexts(source) is source


def test_a_lent_request_is_there_on_another_thread() -> None:
    """What `stream_with_context` made finds its request, on each Flask, on a thread of ours."""
    app = Flask(__name__)

    def words() -> Iterator[str]:
        yield request.path
        yield g.user

    with app.test_request_context("/words"):
        g.user = "Ada"
        source = take_back_contexts(stream_with_context(words()))

    found: list[object] = []
    thread = threading.Thread(target=lambda: found.extend(source))
    thread.start()
    thread.join(10)

    assert found == ["/words", "Ada"]
