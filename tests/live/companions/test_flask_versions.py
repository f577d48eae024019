"""No request stays open, on each Flask that is supported: the oldest and newest of each line."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from typing import NamedTuple

import pytest

from harness import packages
from harness.streams import Crowd, Reader, get
from harness.waiting import wait_until
from live.companions.ways import WAYS, Way, run_way
from live.site import Site

#: What the environment has.
NEWEST = "newest"

#: Flask, and the Werkzeug of its time: the oldest of its line beside the oldest, the newest beside
#: the newest.
FLASKS = {
    "2.3.2": "2.3.3",
    "2.3.3": "2.3.8",
    "3.0.0": "3.0.0",
    "3.0.3": "3.0.6",
    "3.1.0": "3.1.0",
    NEWEST: NEWEST,
}

# More than enough to use up a pool of five, if each kept its connection.
REQUESTS = 12


class Shop(NamedTuple):
    """A running shop, and what it runs on."""

    site: Site
    way: Way
    flask: str
    werkzeug: str


@pytest.fixture(scope="module", params=FLASKS)
def flask(request: pytest.FixtureRequest) -> str:
    """A version of Flask."""
    return str(request.param)


@pytest.fixture(scope="module", params=WAYS)
def shop(
    request: pytest.FixtureRequest, flask: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    """A shop with a pool of five connections, on each Flask and each way."""
    way = WAYS[request.param]
    werkzeug = FLASKS[flask]
    folders = [] if flask == NEWEST else packages.flask(flask, werkzeug=werkzeug)
    with run_way(way, tmp_path_factory.mktemp("shop"), "pooled", packages=folders) as site:
        if flask == NEWEST:
            flask, werkzeug = version("flask"), version("werkzeug")
        yield Shop(site, way, flask, werkzeug)


@pytest.fixture
def site(shop: Shop) -> Iterator[Site]:
    """The shop's site without a stream on it, and with a clean log after the test."""
    shop.site.wait_streams(0)
    yield shop.site
    shop.site.assert_no_trouble(hands_off=shop.way.hands_off)


def wait_unused(site: Site) -> None:
    """No connection is held, but for a moment, until the request is over that opened a stream."""
    wait_until(lambda: site.stats()["checked_out"] == 0, what="a pool that is not in use")


def assert_pages_are_answered(site: Site) -> None:
    for _ in range(REQUESTS):
        assert get(f"{site.url}/page").text == "page for 14"


def test_the_versions(shop: Shop, site: Site) -> None:
    """The server answers with the Flask and the Werkzeug that the test means."""
    stats = site.stats()

    assert (stats["flask"], stats["werkzeug"]) == (shop.flask, shop.werkzeug)


def test_streams_hold_no_connection(shop: Shop, site: Site) -> None:
    """Beside 200 streams (8 that hold threads) no connection is held, and pages can query."""
    with Crowd(f"{site.url}/stream", shop.way.streams) as crowd:
        crowd.wait_opened(shop.way.streams, within_s=30)
        site.wait_streams(shop.way.streams)

        wait_unused(site)
        assert_pages_are_answered(site)
        site.publish_through_worker("hello", "sse")
        crowd.wait_events(1, within_s=20)
        wait_unused(site)


def test_a_lent_request_is_given_back(site: Site) -> None:
    """A generator under `stream_with_context` has its request, and gives its connection back."""
    for name in map(str, range(REQUESTS)):
        with Reader(f"{site.url}/lent?name={name}") as reader:
            assert reader.next_event()["data"] == f"{name} 7 7"
            reader.wait_end()
    site.wait_streams(0)

    wait_unused(site)
    assert_pages_are_answered(site)
