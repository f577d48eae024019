"""What requests and middleware bring beside a stream, on every server that hands streams off."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.streams import Reader
from harness.waiting import wait_until
from harness.wire import Wire
from live.servers.kinds import HANDED_OFF, LIVE, Kind
from live.site import Site, run_site

KINDS = {**{name: Kind(kind) for name, kind in LIVE.items()}, **HANDED_OFF}

#: A socket pair takes about 200 KB before a write to it waits.
MUCH = 1_000_000
MORE_THAN_A_HEAD = 300_000
A_LARGE_HEAD = 240_000


@pytest.fixture(scope="module", params=KINDS)
def shared_site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """A site on each server, shared by the tests of this module."""
    kind = KINDS[request.param]
    folder = tmp_path_factory.mktemp("site")
    more = {"app": "demanding:app", "options": kind.options, "env": kind.env}
    with run_site(kind.kind, folder, **more) as site:
        yield site


def skip_where_heads_are_bounded(site: Site) -> None:
    if site.server.kind.startswith("uwsgi"):
        pytest.skip("uWSGI itself makes no head above 64 KB")


# ---- what comes from the application and its middleware


def test_a_large_body_of_middleware(site: Site, channel: str) -> None:
    """Middleware that adds a megabyte to a stream's response keeps nobody waiting."""
    with Reader(f"{site.stream_url(channel)}&add_body={MUCH}") as reader:
        wait_until(lambda: reader.comments, what="the first byte")
        site.publish_through_worker("hello", channel)

        assert reader.next_event()["data"] == "hello"
        assert b"xxx" not in reader.raw


def test_a_large_head(site: Site, channel: str) -> None:
    """A head of more than a socket pair takes at once arrives whole."""
    skip_where_heads_are_bounded(site)
    with Reader(f"{site.stream_url(channel)}&add_head={A_LARGE_HEAD}") as reader:
        site.publish_through_worker("hello", channel)

        assert len(reader.headers["x-much"]) == A_LARGE_HEAD
        assert reader.next_event()["data"] == "hello"


def test_a_head_beyond_all_bounds(site: Site, channel: str) -> None:
    """A head that nobody would read ends its stream, and the server's threads stay free."""
    skip_where_heads_are_bounded(site)
    url = f"{site.stream_url(channel)}&add_head={MORE_THAN_A_HEAD}"
    for _ in range(4):  # more than any of them has threads
        with Wire(url) as wire:
            wire.request(url)
            assert wire.read_to_end() == b""
    site.ping()
    site.wait_streams(0)


def test_a_status_of_after_request(site: Site, channel: str) -> None:
    """An answer that `after_request` turns into a 403 carries no events and opens no stream."""
    opened = site.stats()["opened"]
    with Reader(f"{site.stream_url(channel)}&forbid=1") as reader:
        site.publish_through_worker("secret", channel)
        reader.wait_end()

        assert reader.status == 403
        assert b"secret" not in reader.raw
    assert site.stats()["opened"] == opened
