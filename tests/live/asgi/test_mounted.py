"""Only the stream of a Flask application, beside another framework's routes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from harness.streams import Reader, get
from harness.waiting import wait_until
from live.asgi.asgi_site import run_asgi_site
from live.site import Site

Launch = Callable[..., Site]


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Starlette on uvicorn, with the stream at /events."""
    folder = tmp_path_factory.mktemp("site")
    with run_asgi_site("uvicorn", folder, app="mounted:starlette") as site:
        yield site


def test_a_mounted_stream(mounted: Site, channel: str) -> None:
    """The stream is where it was mounted, and brings its channel's events."""
    with Reader(f"{mounted.url}/events?channel={channel}") as reader:
        wait_until(lambda: reader.comments, what="an open stream")
        mounted.publisher.publish("hello", channel=channel)

        assert reader.next_event()["data"] == "hello"


def test_nothing_else_is_mounted(mounted: Site) -> None:
    """No other view of the Flask application can be reached."""
    assert get(f"{mounted.url}/hello").text == "hello from Starlette"
    assert get(f"{mounted.url}/ping").status == 404
    assert get(f"{mounted.url}/events/ping").status == 404


def test_the_whole_application_is_mounted(launch: Launch, channel: str) -> None:
    """Below a path, behind another framework's middleware, more streams are open than threads."""
    site = launch("uvicorn", app="mounted:whole")
    url = f"{site.url}/flask/stream?channel={channel}"
    origin = {"Origin": "https://pages.example"}
    with ExitStack() as stack:
        readers = [stack.enter_context(Reader(url, origin)) for _ in range(8)]
        for reader in readers:
            wait_until(lambda r=reader: r.comments, what="an open stream")  # type: ignore[misc]

        assert get(f"{site.url}/hello").text == "hello from Starlette"
        assert get(f"{site.url}/flask/ping").text.startswith("pong")
        site.publisher.publish("hello", channel=channel)
        assert [reader.next_event()["data"] for reader in readers] == ["hello"] * 8
        allowed = {reader.headers["access-control-allow-origin"] for reader in readers}
        assert allowed == {"https://pages.example"}
    wait_until(lambda: '"streams":0' in get(f"{site.url}/flask/stats").text, what="none left")


def test_mounted_streams_end_in_time(launch: Launch, channel: str) -> None:
    """The server is gone within 10 s of SIGTERM though Starlette answers for its life."""
    site = launch("uvicorn", app="mounted:starlette")
    with Reader(f"{site.url}/events?channel={channel}") as reader:
        wait_until(lambda: reader.comments, what="an open stream")

        assert site.server.stop()
        reader.wait_end()
        assert reader.complete
