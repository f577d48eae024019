"""`hub.home`: a hub for each application on a loop."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import Iterator

import pytest

from flask_eventstream.brokers.memory import MemoryBroker
from flask_eventstream.config import Config
from flask_eventstream.hub.home import HOMES, Home
from flask_eventstream.state import AppState


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def an_application() -> AppState:
    return AppState(Config(), MemoryBroker("memory://", retention=None))


def test_an_application_has_one_hub_on_a_loop(loop: asyncio.AbstractEventLoop) -> None:
    """The same application gets the same hub, and another one a hub of its own."""
    home, application, other = Home(loop), an_application(), an_application()

    assert home.find_hub(application) is None
    assert home.hub_of(application) is home.hub_of(application)
    assert home.hub_of(other) is not home.hub_of(application)
    assert set(home.hubs) == {home.hub_of(application), home.hub_of(other)}


def test_each_loop_has_a_hub(loop: asyncio.AbstractEventLoop) -> None:
    """Two loops of one process have a hub of an application each, and both are found."""
    other_loop = asyncio.new_event_loop()
    application, homes = an_application(), (Home(loop), Home(other_loop))
    hubs = {home.hub_of(application) for home in homes}
    other_loop.close()

    assert len(hubs) == 2
    assert set(HOMES.hubs_of(application)) == hubs


def test_a_home_that_is_gone_has_no_hubs(loop: asyncio.AbstractEventLoop) -> None:
    """A loop that nobody has any more is not kept for its hubs."""
    application = an_application()
    Home(loop).hub_of(application)
    gc.collect()

    assert HOMES.hubs_of(application) == []


def test_a_forked_child_has_no_homes(loop: asyncio.AbstractEventLoop) -> None:
    """No loop of the parent's runs in a child, so no hub of it is found there."""
    application, home = an_application(), Home(loop)
    home.hub_of(application)
    child = os.fork()
    if child == 0:
        os._exit(len(HOMES.hubs_of(application)))
    _, status = os.waitpid(child, 0)

    assert os.waitstatus_to_exitcode(status) == 0
    assert len(HOMES.hubs_of(application)) == 1


def test_nothing_is_to_be_ended_where_nothing_is(loop: asyncio.AbstractEventLoop) -> None:
    """Without a stream there is nobody to wait for, also on a loop that does not run."""
    home, application = Home(loop), an_application()

    assert home.end_streams(application, 0.1)
    home.hub_of(application)
    assert home.end_streams(application, 0.1)
