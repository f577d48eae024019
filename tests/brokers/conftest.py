"""A loop for the reading side, and the log that a test is about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from brokers.hearing import Ear, Loop, running_loop
from brokers.stores import STORES, Store
from flask_eventstream.brokers import Broker


@pytest.fixture
def loop() -> Iterator[Loop]:
    with running_loop() as loop:
        yield loop


@pytest.fixture(params=sorted(STORES))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = STORES[request.param](tmp_path)
    yield store
    store.close()


@pytest.fixture
def listen(loop: Loop) -> Iterator[Callable[..., Ear]]:
    """Listens to a broker, and to channels at once: `listen(broker, "a", "b")`."""
    ears: list[Ear] = []

    def listen(broker: Broker, *channels: str) -> Ear:
        ears.append(Ear(loop, broker))
        if channels:
            ears[-1].subscribe(*channels)
        return ears[-1]

    yield listen
    for ear in ears:
        ear.stop()


@pytest.fixture
def broker(store: Store) -> Any:
    """A broker of the test's log, with the usual retention."""
    return store.open()
