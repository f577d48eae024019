"""`flask_eventstream.servers.asgi.signals`: how it is heard that a server stops."""

from __future__ import annotations

import signal
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask

from flask_eventstream import EventStream
from flask_eventstream.asgi import EventStreamASGI
from flask_eventstream.servers.asgi.signals import chain_signals, find_signs, stop_handler
from servers.asgi.asgi_client import opened, run


def test_a_signal_reaches_the_server_too(app: Flask, events: EventStream) -> None:
    """SIGTERM says goodbye to streams, and then calls the server's own handler."""
    called: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: called.append(number))

    async def test() -> None:
        request = await opened(EventStreamASGI(app))
        signal.raise_signal(signal.SIGTERM)
        await request.served

        assert called == [signal.SIGTERM]
        assert request.complete
        assert events.stats().ended == {"shutdown": 1}

    run(test())


def test_a_signal_that_nobody_handles(app: Flask) -> None:
    """Where the server has no handler, none is put there: the signal must still end the process."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

    async def test() -> None:
        request = await opened(EventStreamASGI(app))
        await request.leave()

        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    run(test())


def test_the_servers_own_handler_stays_in_sight() -> None:
    """What the server set is found behind ours, and ours is put there once."""
    said: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _frame: said.append(number))
    before = signal.getsignal(signal.SIGTERM)
    chain_signals(lambda: said.append(0))
    chain_signals(lambda: said.append(0))
    signal.raise_signal(signal.SIGTERM)

    assert stop_handler() is before
    assert said == [0, signal.SIGTERM]


class Hypercorn:
    context = SimpleNamespace(terminated=SimpleNamespace(is_set=lambda: True))

    async def app_send(self, message: Any) -> None:
        """What hypercorn hands to an application."""


class Gunicorn:
    def __init__(self, *, alive: bool) -> None:
        self.protocol = SimpleNamespace(worker=SimpleNamespace(alive=alive))

    async def receive(self) -> None:
        """What gunicorn hands to an application."""


class Uvicorn:
    def __init__(self, *serving: int) -> None:
        self.servers = [SimpleNamespace(is_serving=lambda on=on: bool(on)) for on in serving]

    def handle_exit(self) -> None:
        """What uvicorn sets for SIGTERM."""


def nobody() -> None:
    """A handler, or a callable, of no server that is known."""


@pytest.mark.parametrize(
    ("receive", "send", "handler", "says"),
    [
        (nobody, nobody, nobody, []),
        (None, None, signal.SIG_DFL, []),
        (nobody, Hypercorn().app_send, None, [True]),
        (Gunicorn(alive=True).receive, nobody, None, [False]),
        (Gunicorn(alive=False).receive, nobody, None, [True]),
        (nobody, nobody, Uvicorn(1, 1).handle_exit, [False]),
        (nobody, nobody, Uvicorn(1, 0).handle_exit, [True]),
    ],
)
def test_signs_without_a_signal(receive: Any, send: Any, handler: Any, says: list[bool]) -> None:
    """Each server that is known shows whether it stops; of others nothing is asked."""
    assert [sign() for sign in find_signs(receive, send, handler)] == says
