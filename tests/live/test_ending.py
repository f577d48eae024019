"""Workers that end, in order or not: streams end with them, and nothing is lost."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable

import pytest

from harness.ports import free_port
from harness.servers import KINDS
from harness.streams import post
from harness.waiting import wait_until
from harness.wire import Wire
from live.returning import in_traffic
from live.site import GUNICORN, Site

Launch = Callable[..., Site]

# A worker that waited for its streams would be there for so long.
LONG_GRACE = ["--graceful-timeout", "120"]

# Werkzeug has one process and no reload by SIGHUP; it ends, and is started again. Where SIGTERM
# ends a Python process without its exit hooks, as Werkzeug lets it, there is no goodbye.


@pytest.mark.parametrize("kind", GUNICORN)
def test_sigterm_says_goodbye(kind: str, launch: Launch, channel: str) -> None:
    """Streams get a `retry:` and their end when their worker gets SIGTERM; a new one answers."""
    site = launch(kind)
    old = site.worker
    with site.read(channel) as reader:
        wait_until(lambda: reader.comments, what="an open stream")
        opening = len(reader.raw)
        site.server.signal(signal.SIGTERM, old)
        reader.wait_end()

        assert reader.raw[opening:].startswith(b"retry: ")
    site.wait_replaced(old)


def test_a_goodbye_byte_for_byte(launch: Launch, channel: str) -> None:
    """A goodbye is a `retry:` and a comment, in one chunk where there are chunks, and the end."""
    site = launch("gunicorn-sync")
    old, url = site.worker, site.stream_url(channel)
    with Wire(url) as chunked, Wire(url) as plain:
        for wire, version in ((chunked, "HTTP/1.1"), (plain, "HTTP/1.0")):
            wire.request(url, version=version)
            wire.read_until(b"retry: 500\n:\n")
        site.server.signal(signal.SIGHUP)
        in_chunks, as_it_is = (
            wire.read_to_end().partition(b"\r\n\r\n")[2] for wire in (chunked, plain)
        )
    wait_for_a_successor(site, old)

    assert re.fullmatch(rb"retry: 500\n:\nretry: [0-9]+\n:\n", as_it_is)
    found = re.fullmatch(
        rb"d\r\nretry: 500\n:\n\r\n([def])\r\n(retry: [0-9]+\n:\n)\r\n0\r\n\r\n", in_chunks
    )
    assert found
    assert int(found[1], 16) == len(found[2])


@pytest.mark.parametrize("kind", GUNICORN)
def test_a_client_that_takes_nothing_delays_no_reload(
    kind: str, launch: Launch, channel: str
) -> None:
    """A worker with a stream whose client does not read is gone soon after a reload."""
    site = launch(kind, SSE_MAX_BUFFER_BYTES=64 * 1024 * 1024)
    old = site.worker
    with site.read(channel):
        for _ in range(6):
            # More than the kernel's buffers take: some of it waits in the worker.
            site.publish_through_worker("x" * 3_000_000, channel)
        site.server.signal(signal.SIGHUP)

        # gunicorn itself would wait for half a minute.
        site.wait_replaced(old, within_s=15)


def wait_for_a_successor(site: Site, worker: int) -> None:
    """A gunicorn worker that is told to stop while it starts is slow; Werkzeug has none, and ends.

    A SIGTERM while Werkzeug's reloader is at its exit hooks makes it log a traceback.
    """
    if site.server.kind in GUNICORN:
        site.wait_replaced(worker)
    else:
        site.server.wait_ended()


@pytest.mark.parametrize("kind", KINDS)
def test_sigterm_ends_streams(kind: str, launch: Launch, channel: str) -> None:
    """Streams end when the whole server is stopped, and it stops at once."""
    site = launch(kind)
    with site.read(channel) as reader:
        # gunicorn itself would wait for half a minute.
        stopped = site.server.stop()
        reader.wait_end()

        assert stopped


@pytest.mark.parametrize("kind", KINDS)
def test_sigkill_ends_streams(kind: str, launch: Launch, channel: str) -> None:
    """Streams end when their worker is killed."""
    site = launch(kind)
    worker = site.worker
    with site.read(channel) as reader:
        site.server.signal(signal.SIGKILL, worker)
        reader.wait_end()
    wait_for_a_successor(site, worker)


@pytest.mark.parametrize("kind", KINDS)
def test_a_forked_child_holds_no_stream(kind: str, launch: Launch, channel: str) -> None:
    """A child that a view forked keeps no stream open after the worker is killed."""
    site = launch(kind)
    with site.read(channel) as reader:
        worker, child = site.worker, int(post(f"{site.url}/fork").text)
        site.server.signal(signal.SIGKILL, worker)
        reader.wait_end()

        # It is there to this day, and nobody else would end it.
        site.server.signal(signal.SIGKILL, child)
    wait_for_a_successor(site, worker)


def reload(site: Site) -> None:
    site.server.signal(signal.SIGHUP)


def kill_worker(site: Site) -> None:
    site.server.signal(signal.SIGKILL, site.worker)


@pytest.mark.parametrize("kind", GUNICORN)
def test_500_miss_nothing(kind: str, launch: Launch, channel: str) -> None:
    """500 clients come back from a reload and from a SIGKILL, and miss nothing, all the while."""
    site = launch(kind, options=LONG_GRACE)
    with in_traffic(site, channel, 500) as crowd:
        for round_, cut in enumerate((reload, kill_worker), start=1):
            old = site.worker
            cut(site)
            site.wait_replaced(old, within_s=20)
            crowd.wait_returned(round_ * 500)

        assert len(crowd.goodbyes) >= 450  # one in a thousand is what the opening said, too


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in GUNICORN])
def test_a_new_server_misses_nothing(kind: str, launch: Launch, channel: str) -> None:
    """Clients that come back to a server started again miss nothing and get nothing twice."""
    site = launch(kind, port=free_port())
    with in_traffic(site, channel, 20) as crowd:
        site.server.kill()
        launch(kind, port=site.server.port)
        crowd.wait_returned(20)
