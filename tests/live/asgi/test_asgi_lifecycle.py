"""ASGI servers that are reloaded, killed, or short of descriptors, and children that they fork."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from harness.asgi_servers import ASGI_KINDS
from harness.certificate import make_certificate
from harness.curl import Curl
from harness.process import is_alive
from harness.servers import serve
from harness.streams import Reader, allow_descriptors, get, post
from harness.waiting import wait_until
from live.asgi.asgi_site import APPS
from live.claims import (
    OPEN_FILES,
    assert_one_address_has_so_many,
    assert_streams_beyond_are_sent_away,
)
from live.returning import in_traffic
from live.site import Site

Launch = Callable[..., Site]

MANY = 1000

SHOWS_CONNECTIONS = ["uvicorn", "hypercorn", "gunicorn-asgi"]


def test_500_miss_nothing(launch: Launch, channel: str) -> None:
    """500 clients come back from a reload and from a SIGKILL, and miss nothing, all the while."""
    # A worker that waited for its streams would be there for so long.
    site = launch("gunicorn-asgi", options=["--graceful-timeout", "120"])
    with in_traffic(site, channel, 500) as crowd:
        old = site.ping()
        site.server.signal(signal.SIGHUP)
        site.wait_replaced(old)
        crowd.wait_returned(500)
        assert len(crowd.goodbyes) >= 450  # one in a thousand is what the opening said, too

        killed = site.ping()
        site.server.signal(signal.SIGKILL, killed)
        site.wait_replaced(killed)
        crowd.wait_returned(1000)


def test_1000_at_once(launch: Launch, channel: str) -> None:
    """1,000 clients of a uvicorn that was killed come back to the next one at the same moment."""
    allow_descriptors(MANY)
    site = launch("uvicorn")
    with in_traffic(site, channel, MANY, at_once=MANY) as crowd:
        site.server.kill()
        successor = launch("uvicorn", port=site.server.port)
        while crowd.returns < MANY or crowd.open < MANY:
            successor.ping(timeout_s=40)


def test_preloaded_and_watched(launch: Launch, channel: str) -> None:
    """A stream without events goes on past gunicorn's `--timeout`, in a preloaded application."""
    # The worker says once a second that it lives, and later where the machine is busy.
    options = ["--preload", "--timeout", "4"]
    site = launch("gunicorn-asgi", options=options, SSE_HEARTBEAT_S=0.5)
    worker = site.ping()
    with site.read(channel) as reader:
        # The first one opens the stream.
        wait_until(lambda: reader.comments >= 14, within_s=30, what="6.5 s of heartbeats")
        site.publish_through_worker("hello", channel)

        assert reader.next_event()["data"] == "hello"
    assert site.ping() == worker


@pytest.mark.parametrize("kind", SHOWS_CONNECTIONS)
def test_a_forked_child_holds_no_stream(kind: str, launch: Launch, channel: str) -> None:
    """A child that a view forked keeps no stream open after the server's process is killed."""
    site = launch(kind)
    with site.read(channel) as reader, site.read(channel) as other:
        for each in (reader, other):
            wait_until(partial(getattr, each, "comments"), what="an open stream")
        worker, child = site.ping(), int(post(f"{site.url}/fork").text)
        site.publish_through_worker("hello", channel)
        assert [each.next_event()["data"] for each in (reader, other)] == ["hello"] * 2
        site.server.signal(signal.SIGKILL, worker)
        for each in (reader, other):
            each.wait_end()

        assert is_alive(child)
        # Nobody else would end it, and it has the port.
        site.server.signal(signal.SIGKILL, child)
        site.server.kill()


def test_more_streams_than_descriptors(launch: Launch, channel: str) -> None:
    """Streams for which no descriptor is left are sent away with 200; the server stays calm."""
    site = launch("uvicorn", OPEN_FILES=OPEN_FILES, SSE_HEARTBEAT_S=0.4)
    assert_streams_beyond_are_sent_away(site, channel)


@pytest.mark.parametrize("kind", ASGI_KINDS)
def test_streams_of_one_address(kind: str, launch: Launch, channel: str) -> None:
    """An address has so many streams as it may, and another address is served."""
    site = launch(kind, SSE_MAX_STREAMS_PER_ADDRESS=2)
    assert_one_address_has_so_many(site, channel, 2)


def test_streams_over_tls_of_uvicorn(tmp_path: Path, launch: Launch, channel: str) -> None:
    """Where uvicorn ends TLS itself, streams bring events and say goodbye beside requests."""
    pem = make_certificate(tmp_path)
    options = ["--ssl-certfile", str(pem.certificate), "--ssl-keyfile", str(pem.key)]
    site = launch("uvicorn", options=options)
    url = site.stream_url(channel).replace("http:", "https:")
    with (
        Curl(url, certificate=pem.certificate) as one,
        Curl(url, certificate=pem.certificate) as two,
    ):
        for each in (one, two):
            each.wait_for("retry: 500\n:\n")
        with Curl(url.partition("/stream")[0] + "/ping", certificate=pem.certificate) as ping:
            ping.wait_for("pong")
        site.publisher.publish("hello", channel=channel)
        for each in (one, two):
            each.wait_for("data: hello\n")

        assert site.server.stop()
        for each in (one, two):
            assert each.wait_end().count("retry: ") == 2


def pong(url: str) -> str:
    """What /ping says; nothing where the process that took the connection ends just then."""
    try:
        return get(f"{url}/ping").text
    except (AssertionError, OSError):
        return ""


def test_uvicorn_reloads_changed_code(tmp_path: Path, channel: str) -> None:
    """`uvicorn --reload` ends streams when a file changes, and clients find the new code."""
    shutil.copytree(APPS, tmp_path / "apps")
    module = tmp_path / "apps" / "served.py"
    url = f"sqlite:///{tmp_path / 'events.db'}"
    options = ["--reload", "--reload-dir", str(tmp_path / "apps")]
    env = {"FLASK_SSE_BROKER_URL": url}
    with serve("uvicorn", "served:asgi", cwd=tmp_path / "apps", env=env, options=options) as server:
        wait_until(lambda: "startup complete" in server.log(), what="the application")
        with Reader(f"{server.url}/stream?channel={channel}") as reader:
            wait_until(lambda: reader.comments, what="an open stream")
            text = module.read_text(encoding="utf-8").replace('return f"pong', 'return f"new')
            module.write_text(text, encoding="utf-8")
            reader.wait_end(within_s=30)

            assert reader.raw.count(b"retry: ") == 2
        wait_until(lambda: pong(server.url).startswith("new"), what="the new code")
        assert "Traceback" not in server.log()
