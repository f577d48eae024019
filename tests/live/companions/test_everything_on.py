"""One shop with all companions at once, on each way out: streams, headers, ordinary pages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from harness.streams import Crowd, Reader, Reply, get, post
from harness.waiting import wait_until
from live.companions.ways import HELD, WAYS, Way, run_way
from live.site import Site

# What a browser on a page of another origin says through a proxy that ends TLS.
SECURE = {"X-Forwarded-Proto": "https"}
PAGE = "https://page.example"
BROWSER = {
    **SECURE,
    "X-Forwarded-For": "192.0.2.7",
    "Origin": PAGE,
    "Accept-Encoding": "gzip, deflate, br, zstd",
}


class Shop(NamedTuple):
    """A running shop, and a browser that is logged in."""

    site: Site
    way: Way
    cookie: str

    @property
    def headers(self) -> dict[str, str]:
        return {**BROWSER, "Cookie": self.cookie}

    def read(self) -> Reader:
        return Reader(f"{self.site.url}/stream", headers=self.headers)

    def get(self, path: str) -> Reply:
        return get(f"{self.site.url}{path}", headers=self.headers)

    def publish(self, data: str) -> None:
        post(f"{self.site.url}/publish?channel=sse", data.encode(), headers=BROWSER)

    def streams_of_session(self) -> int:
        """How many streams were opened with the browser's session."""
        plain = {**SECURE, "Cookie": self.cookie}
        return int(json.loads(get(f"{self.site.url}/page", headers=plain).body)["streams"])

    def stats(self) -> dict[str, Any]:
        return dict(json.loads(get(f"{self.site.url}/stats", headers=SECURE).body))

    def wait_streams(self, count: int) -> None:
        wait_until(lambda: self.stats()["streams"] == count, what=f"{count} streams")


@pytest.fixture(scope="module", params=WAYS)
def shared_shop(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shop]:
    """A shop on each way."""
    way = WAYS[request.param]
    folder = tmp_path_factory.mktemp("shop")
    with run_way(way, folder, "shop", SHOP_FOLDER=folder) as site:
        reply = post(f"{site.url}/login", headers=BROWSER)
        yield Shop(site, way, reply.headers["set-cookie"].split(";")[0])


@pytest.fixture
def shop(shared_shop: Shop) -> Iterator[Shop]:
    """The shop without a stream on it, and with a clean log after the test."""
    shared_shop.wait_streams(0)
    yield shared_shop
    shared_shop.site.assert_no_trouble(hands_off=shared_shop.way.hands_off)


def words(header: str) -> set[str]:
    return {word.strip().lower() for word in header.split(",")}


def test_an_event_arrives(shop: Shop) -> None:
    """A stream opens at once, and an event that a view publishes arrives on it as it is."""
    with shop.read() as reader:
        wait_until(lambda: reader.comments, what="the first comment")
        shop.publish("hello")

        assert reader.next_event()["data"] == "hello"
        assert "content-encoding" not in reader.headers


def test_flask_login(shop: Shop) -> None:
    """`login_required` as the stream's rule refuses strangers with 401, and lets users in."""
    opened = shop.stats()["opened"]

    assert get(f"{shop.site.url}/stream", headers=BROWSER).status == 401
    assert shop.stats()["opened"] == opened
    with shop.read() as reader:
        assert reader.status == 200
        assert "cookie" in words(reader.headers["vary"])


def test_users_are_not_kept(shop: Shop) -> None:
    """While streams are open neither their users nor a connection of the database is kept."""
    url = f"{shop.site.url}/stream"
    with Crowd(url, HELD, headers=shop.headers) as crowd:
        crowd.wait_opened(HELD, within_s=20)
        shop.wait_streams(HELD)

        # The last stream may be open a moment before the request that opened it is over.
        wait_until(lambda: shop.stats()["checked_out"] == 0, what="a pool that is not in use")
        # A server may keep its last response until the next one.
        wait_until(lambda: shop.stats()["users"] <= 1, what="users that are let go")


def test_flask_session(shop: Shop) -> None:
    """What a stream's request puts into the session is saved once, and its cookie arrives once."""
    before = shop.streams_of_session()
    saves = shop.stats()["saves"]
    with shop.read() as reader:
        shop.wait_streams(1)

        assert shop.stats()["saves"] == saves + 1
        assert reader.head.lower().count(b"\r\nset-cookie: session=") == 1
        assert reader.headers["set-cookie"].startswith(f"{shop.cookie};")
    shop.wait_streams(0)
    assert shop.stats()["saves"] == saves + 1
    assert shop.streams_of_session() == before + 1


def test_flask_compress(shop: Shop) -> None:
    """A page is compressed, and a stream is not, for a browser that takes both."""
    with shop.read() as reader:
        assert "content-encoding" not in reader.headers
        assert "accept-encoding" in words(reader.headers["vary"])
    assert "content-encoding" in shop.get("/page").headers


def test_flask_talisman(shop: Shop) -> None:
    """The security headers of a page are those of a stream; plain HTTP is sent to HTTPS."""
    names = (
        "content-security-policy",
        "strict-transport-security",
        "x-content-type-options",
        "x-frame-options",
        "referrer-policy",
    )
    page = shop.get("/page")
    with shop.read() as reader:
        assert [reader.headers[name] for name in names] == [page.headers[name] for name in names]
    redirect = get(f"{shop.site.url}/stream")

    assert redirect.status == 302
    assert redirect.headers["location"].startswith("https://")


def test_flask_cors(shop: Shop) -> None:
    """A page of the origin that is allowed may read a stream with credentials, others not."""
    with shop.read() as reader:
        assert reader.headers["access-control-allow-origin"] == PAGE
        assert reader.headers["access-control-allow-credentials"] == "true"
    foreign = {**shop.headers, "Origin": "https://evil.example"}
    with Reader(f"{shop.site.url}/stream", headers=foreign) as reader:
        assert "access-control-allow-origin" not in reader.headers


def test_sentry(shop: Shop) -> None:
    """A stream's transaction ends when the stream opens, and nothing is reported as an error."""
    before = len(shop.stats()["reports"])
    with shop.read() as reader:
        wait_until(lambda: reader.comments, what="the first comment")
        wait_until(
            lambda: (
                {"type": "transaction", "name": "sse.stream"} in shop.stats()["reports"][before:]
            ),
            what="the transaction of the stream",
        )
        assert not reader.ended
    shop.wait_streams(0)

    assert {report["type"] for report in shop.stats()["reports"]} == {"transaction"}


def test_flask_limiter(shop: Shop) -> None:
    """A limit counts a stream when it opens, by the client that the proxy names."""
    left = int(shop.get("/page").headers["x-ratelimit-remaining"])
    with shop.read() as reader:
        # Each endpoint has a count of its own.
        first = int(reader.headers["x-ratelimit-remaining"])
        with shop.read() as another:
            assert int(another.headers["x-ratelimit-remaining"]) == first - 1
    assert int(shop.get("/page").headers["x-ratelimit-remaining"]) == left - 1


def test_pages_beside_streams(shop: Shop) -> None:
    """Pages that query are answered beside open streams, as often as the pool has connections."""
    with Crowd(f"{shop.site.url}/stream", HELD, headers=shop.headers) as crowd:
        crowd.wait_opened(HELD, within_s=20)

        assert {shop.get("/page").status for _ in range(12)} == {200}
        assert crowd.ended == 0
