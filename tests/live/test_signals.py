"""Signals on real servers: sent where an application's own code may run."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.servers import KINDS
from harness.waiting import wait_until
from live.site import Site, json_of

Launch = Callable[..., Site]


@pytest.mark.parametrize("kind", KINDS)
def test_receivers_may_wait_and_publish(kind: str, launch: Launch, channel: str) -> None:
    """A receiver may wait and publish as a view may; on gevent it runs in a greenlet."""
    site = launch(kind, app="signalling:app")
    with site.read("ends") as other:
        wait_until(lambda: other.comments, what="an open stream")
        with site.read(channel) as reader:
            wait_until(lambda: reader.comments, what="another")
            site.wait_streams(2)

        assert other.next_event()["data"] == "one less"
    wait_until(lambda: len(json_of(f"{site.url}/heard")) == 4, what="all signals")
    heard = json_of(f"{site.url}/heard")
    where = "greenlet" if "gevent" in kind else "thread"

    assert [[what, here] for what, _, here, _ in heard] == [
        ["opened", where],
        ["opened", where],
        ["ended", where],
        ["ended", where],
    ]
    assert [each[3]["channels"] for each in heard] == [["ends"], [channel], [channel], ["ends"]]
