"""What requests and middleware bring beside a stream, on every server that hands streams off."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

import pytest

from harness.streams import Reader
from harness.waiting import wait_until
from harness.wire import Wire, request_line
from live.servers.kinds import HANDED_OFF, LIVE, Kind
from live.site import Site, run_site

KINDS = {**{name: Kind(kind) for name, kind in LIVE.items()}, **HANDED_OFF}

#: uWSGI itself makes no head above 64 KB, and leaves chunks of a request's body to applications
#: that call functions of its own.
NOT_UWSGI = [name for name, kind in KINDS.items() if not kind.kind.startswith("uwsgi")]

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


# ---- what comes from the application and its middleware


def test_a_large_body_of_middleware(site: Site, channel: str) -> None:
    """Middleware that adds a megabyte to a stream's response keeps nobody waiting."""
    with Reader(f"{site.stream_url(channel)}&add_body={MUCH}") as reader:
        wait_until(lambda: reader.comments, what="the first byte")
        site.publish_through_worker("hello", channel)

        assert reader.next_event()["data"] == "hello"
        assert b"xxx" not in reader.raw


@pytest.mark.parametrize("shared_site", NOT_UWSGI, indirect=True, scope="module")
def test_a_large_head(site: Site, channel: str) -> None:
    """A head of more than a socket pair takes at once arrives whole."""
    with Reader(f"{site.stream_url(channel)}&add_head={A_LARGE_HEAD}") as reader:
        site.publish_through_worker("hello", channel)

        assert len(reader.headers["x-much"]) == A_LARGE_HEAD
        assert reader.next_event()["data"] == "hello"


@pytest.mark.parametrize("shared_site", NOT_UWSGI, indirect=True, scope="module")
def test_a_head_beyond_all_bounds(site: Site, channel: str) -> None:
    """A head that nobody would read ends its stream, and the server's threads stay free."""
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


# ---- bodies of requests

SIZES = [0, 12, 200_000, 5_000_000]


def head_of(path: str, *lines: str) -> list[str]:
    return [request_line(path, "POST"), "Host: localhost", *lines, ""]


def events_of(wire: Wire) -> list[bytes]:
    """The data of all events of a stream, up to its end."""
    return re.findall(rb"data: (.*)\n", wire.read_to_end())


def answer_to(site: Site, path: str, size: int, *, chunked: bool = False) -> list[bytes]:
    """What a view answers to a body that comes a moment after the head."""
    url = f"{site.url}{path}"
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
    with Wire(url) as wire:
        wire.send(*head_of(url, framing))
        time.sleep(0.1)  # so that it does not come along with the head
        body = b"x" * size
        wire.send_bytes(b"%x\r\n%b\r\n0\r\n\r\n" % (size, body) if chunked else body)
        return events_of(wire)


@pytest.mark.parametrize("size", SIZES)
def test_a_body_that_is_read_late(site: Site, size: int) -> None:
    """A generator that asks for its request's body when the stream is open gets all of it."""
    assert answer_to(site, "/lengths", size) == [b"%d" % size, b""]


@pytest.mark.parametrize("size", SIZES)
def test_a_body_that_nobody_reads(site: Site, size: int) -> None:
    """A body that nobody reads does no harm to the stream that answers."""
    assert answer_to(site, "/deaf", size) == [b"0", b"1", b"2"]


@pytest.mark.parametrize("shared_site", NOT_UWSGI, indirect=True, scope="module")
@pytest.mark.parametrize("size", [12, 5_000_000])
def test_a_body_in_chunks(site: Site, size: int) -> None:
    """A body in chunks is read late as well, on every server that decodes them."""
    assert answer_to(site, "/lengths", size, chunked=True) == [b"%d" % size, b""]


@pytest.mark.parametrize("path", ["/lengths", "/deaf"])
def test_a_client_that_waits_to_be_asked(site: Site, path: str) -> None:
    """A body that waits for `100 Continue` is asked for before the stream opens, or not at all."""
    url = f"{site.url}{path}"
    with Wire(url) as wire:
        wire.send(*head_of(url, "Content-Length: 12", "Expect: 100-continue"))
        if not site.server.kind.startswith("uwsgi"):
            wire.read_until(b"HTTP/1.1 100 Continue\r\n\r\n")
        wire.send_bytes(b"x" * 12)
        got = events_of(wire)

        assert b"HTTP/1.1 100" not in wire.received.partition(b"HTTP/1.1 200")[2]
        assert got == ([b"12", b""] if path == "/lengths" else [b"0", b"1", b"2"])


PATIENCE_S = 10
SLOW = ["gunicorn-sync", "gunicorn-gevent", "werkzeug-unthreaded", "cheroot"]


@pytest.mark.parametrize("trickles", [False, True])
@pytest.mark.parametrize("kind", SLOW)
def test_a_body_that_never_comes(kind: str, launch: Callable[..., Site], *, trickles: bool) -> None:
    """A body that does not come, or comes too slowly, is given up: 408, and the worker is free."""
    site = launch(Kind(kind), app="demanding:app")
    url = f"{site.url}/lengths"
    with Wire(url) as wire:
        began = time.monotonic()
        wire.send(*head_of(url, "Content-Length: 1000"))
        while trickles and time.monotonic() - began < PATIENCE_S - 1:
            wire.send_bytes(b"x")
            time.sleep(0.5)
        head = wire.read_until(b"\r\n\r\n", within_s=PATIENCE_S * 2)

        assert head.split()[1] == b"408"
        assert b"came too slowly" in wire.read_to_end()
    site.ping()
    site.wait_streams(0)
