"""One Chromium for the whole run, private tabs for each test, and the app that records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

from harness.servers import Server
from live.browser.chromium import Tab, chromium

APPS = Path(__file__).parent / "apps"
JS = Path(__file__).parents[2] / "js"


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        yield driver


@pytest.fixture
def new_tab(driver: Chrome) -> Iterator[Callable[[], Tab]]:
    """Opens as many private tabs as the test asks for, and closes them."""
    with ExitStack() as tabs:
        yield lambda: tabs.enter_context(closing(Tab(driver)))


@pytest.fixture
def tab(new_tab: Callable[[], Tab]) -> Tab:
    return new_tab()


@pytest.fixture
def broker_url(tmp_path: Path) -> str:
    """A broker file of the test's own."""
    return f"sqlite:///{tmp_path / 'events.sqlite'}"


@pytest.fixture
def start(serve: Callable[..., Server], broker_url: str) -> Callable[..., Server]:
    """Serves apps/pages.py with the test's broker: `start(kind, port=…, SSE_HEARTBEAT_S=…)`.

    A second server on the port and the file of a killed one is that server, started again.
    """

    def start(kind: str = "gunicorn-sync", port: int = 0, **settings: object) -> Server:
        # Clients come back soon, so that tests of coming back take little time.
        given = {"SSE_BROKER_URL": broker_url, "SSE_RETRY_MS": 200, **settings}
        env = {f"FLASK_{key}": str(value) for key, value in given.items()}
        return serve(kind, "pages:app", cwd=APPS, env=env, port=port)

    return start


@pytest.fixture
def foreign() -> Path:
    """The folder of the clients that npm brings, with all of them in it."""
    if not (JS / "node_modules" / "eventsource-parser").is_dir():
        message = "this test needs tests/js/node_modules: `npm install --prefix tests/js`"
        raise AssertionError(message)
    return JS
