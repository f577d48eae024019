"""`flask_eventstream.servers.asgi.known`: what servers show of their connections."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from flask_eventstream.servers.asgi.known import find_backlog, find_break_off, find_transport
from servers.asgi.asgi_client import Message


def test_an_unknown_server_shows_nothing() -> None:
    """Of a server that is not known, nothing is asked, and no connection is broken off."""
    nobody: Any = None

    assert find_transport(nobody, nobody) is None
    assert find_break_off({"http_version": "1.1"}, nobody, nobody) is None
    assert find_break_off({"http_version": "2"}, nobody, nobody) is None
    assert find_backlog({"http_version": "2"}, nobody) is None


def test_what_waits_in_the_server_is_seen() -> None:
    """What waits in hypercorn for a stream of HTTP/2 is found, and nothing on HTTP/1.1."""

    class Protocol:
        stream_buffers = {7: SimpleNamespace(buffer=b"12345")}  # noqa: RUF012

        async def stream_send(self, event: object) -> None:
            """What hypercorn's streams write to."""

    class Stream:
        stream_id = 7
        send = Protocol().stream_send

        async def app_send(self, message: Message) -> None:
            """What hypercorn hands to an application."""

    send: Any = Stream().app_send
    backlog = find_backlog({"http_version": "2"}, send)

    assert backlog is not None
    assert backlog() == 5
    assert find_backlog({"http_version": "1.1"}, send) is None


def test_a_shared_connection_is_never_broken_off() -> None:
    """On HTTP/2, where a connection carries other requests, it is not cut for one slow stream."""

    class Cycle:
        transport = SimpleNamespace(abort=lambda: None)

        async def send(self, message: Message) -> None:
            """What uvicorn hands to an application."""

    send: Any = Cycle().send

    transport = find_transport(send, send)

    assert find_break_off({"http_version": "1.1"}, transport, send) is not None
    assert find_break_off({"http_version": "2"}, transport, send) is None
