"""`flask_eventstream.asgi`: the door, whose name the documentation promises."""

from __future__ import annotations

from flask_eventstream import asgi
from flask_eventstream.servers.asgi.app import EventStreamASGI


def test_it_leads_to_the_wrapper() -> None:
    """The documented name is the wrapper itself."""
    assert asgi.EventStreamASGI is EventStreamASGI
