"""Servers whose connections can't be handed off: each stream holds a thread, and some are left."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from harness.certificate import make_certificate
from harness.curl import Curl
from harness.waiting import wait_until
from live.servers.kinds import GUNICORN_HELD, HELD, Kind
from live.site import HOLDS_THREADS, Site

SHORT = {"SSE_HEARTBEAT_S": 0.2}


@pytest.fixture(params=HELD)
def held(request: pytest.FixtureRequest, launch: Callable[..., Site]) -> tuple[Site, int, str]:
    """A site where streams hold threads, how many may, and what the log says of the reason."""
    kind, most, why = HELD[request.param]
    return launch(kind, hands_off=False, **SHORT), most, why


def test_two_more_than_fit(held: tuple[Site, int, str], channel: str) -> None:
    """Streams beyond the cap are told to come back, those below live, and requests are answered."""
    site, most, why = held
    with ExitStack() as stack:
        readers = [stack.enter_context(site.read(channel)) for _ in range(most)]
        for reader in readers:
            wait_until(partial(getattr, reader, "comments"), what="an open stream")
        for _ in range(2):
            sent_away = stack.enter_context(site.read(channel))
            sent_away.wait_end()
            assert sent_away.status == 200
            assert sent_away.retry is not None

        site.ping()
        site.publish_through_worker("hello", channel)
        assert [reader.next_event()["data"] for reader in readers] == ["hello"] * most
        # Two heartbeats at least.
        wait_until(lambda: readers[0].comments > 2, what="heartbeats")

    # The place of a client that left is free again with the next heartbeat or two.
    site.wait_streams(0)
    with site.read(channel) as reader:
        site.publish_through_worker("again", channel)
        assert reader.next_event()["data"] == "again"
    lines = [line for line in site.server.log().splitlines() if HOLDS_THREADS in line]
    assert len(lines) == 1
    assert why in lines[0]


@pytest.mark.parametrize("name", HELD)
def test_a_held_stream_ends_by_its_age(
    name: str, launch: Callable[..., Site], channel: str
) -> None:
    """A stream that holds a thread ends at its greatest age, and its client finds room again."""
    site = launch(HELD[name][0], hands_off=False, SSE_STREAM_LIFETIME_S=1, **SHORT)
    for _ in range(2):
        with site.read(channel) as reader:
            reader.wait_end()

            assert reader.complete
            assert reader.retry is not None


# Streams over TLS, and streams that share a connection.
GUNICORN = Kind("gunicorn-gthread", ("--threads", "4", "--graceful-timeout", "1"))
MOST = 2


def test_gunicorn_with_tls_of_its_own(
    launch: Callable[..., Site], channel: str, tmp_path: Path
) -> None:
    """Under gunicorn's own TLS half of the threads hold streams, and the log says what to do."""
    pem = make_certificate(tmp_path)
    options = ["--certfile", str(pem.certificate), "--keyfile", str(pem.key)]
    site = launch(GUNICORN, hands_off=False, options=options, **SHORT)
    url = site.url.replace("http:", "https:")

    assert_half_is_left(site, url, channel, certificate=pem.certificate)
    assert "ends TLS itself: let a proxy such as nginx do that" in the_warning(site)


def test_gunicorn_with_http_2(launch: Callable[..., Site], channel: str) -> None:
    """Under gunicorn's HTTP/2 half of the threads hold streams, and the log says what to do."""
    site = launch(GUNICORN, hands_off=False, options=GUNICORN_HELD["gunicorn, HTTP/2"], **SHORT)

    assert_half_is_left(site, site.url, channel, "--http2-prior-knowledge")
    assert "let a proxy such as nginx speak it" in the_warning(site)


def assert_half_is_left(
    site: Site, url: str, channel: str, *options: str, certificate: Path | None = None
) -> None:
    def ask(path: str) -> Curl:
        return stack.enter_context(Curl(url + path, *options, certificate=certificate))

    with ExitStack() as stack:
        streams = [ask(f"/stream?channel={channel}") for _ in range(MOST)]
        for stream in streams:
            stream.wait_for("retry: 500\n:\n")
        for _ in range(2):
            assert "retry: " in ask(f"/stream?channel={channel}").wait_end()
        ask("/ping").wait_for("pong")
        site.publisher.publish("hello", channel=channel)
        for stream in streams:
            stream.wait_for("data: hello\n")
            # Heartbeats behind it.
            stream.wait_for("\n\n:\n:\n")


def the_warning(site: Site) -> str:
    (line,) = [line for line in site.server.log().splitlines() if HOLDS_THREADS in line]
    return line


def test_uwsgi_without_threads(launch: Callable[..., Site], channel: str) -> None:
    """Where uWSGI lets no thread run, streams are sent away, and its log says how to start it."""
    site = launch(Kind("uwsgi-debian"))
    with site.read(channel) as reader:
        reader.wait_end()

        assert reader.retry is not None
    site.ping()
    assert "start it with --enable-threads" in site.server.log()


def test_debian_uwsgi_with_threads(launch: Callable[..., Site], channel: str) -> None:
    """Debian's uWSGI with --enable-threads hands streams off: its one process answers requests."""
    site = launch(Kind("uwsgi-debian", ("--enable-threads",)))
    with site.read(channel) as reader, site.read(channel) as other:
        site.publish_through_worker("hello", channel)

        assert [each.next_event()["data"] for each in (reader, other)] == ["hello"] * 2


def test_a_process_for_each_request(launch: Callable[..., Site], channel: str) -> None:
    """Where Werkzeug forks for each request the child holds its stream, and the log says why."""
    site = launch(Kind("werkzeug-forking"), hands_off=False, **SHORT)
    with site.read(channel) as reader, site.read(channel) as other:
        for each in (reader, other):
            wait_until(partial(getattr, each, "comments"), what="an open stream")
        site.ping()
        site.publish_through_worker("hello", channel)

        assert [each.next_event()["data"] for each in (reader, other)] == ["hello"] * 2
    assert "leave `processes` at 1" in site.server.log()


#: What is served, how, and the bridge that is in it.
BRIDGES = [
    ("bridged:a2wsgi", (), "a2wsgi"),
    ("bridged:starlette", (), "starlette"),
    ("plain:app", ("--interface", "wsgi"), "a2wsgi"),
]


@pytest.mark.parametrize(("app", "options", "bridge"), BRIDGES)
def test_bridges_that_hide_who_left(
    app: str, options: tuple[str, ...], bridge: str, launch: Callable[..., Site], channel: str
) -> None:
    """Behind a bridge from ASGI that is not ours streams hold no thread: the log has the remedy."""
    site = launch(Kind("uvicorn", options), app=app)
    for _ in range(3):
        with site.read(channel) as reader:
            reader.wait_end()

            assert reader.status == 200
            assert reader.retry is not None
    site.ping()
    (line,) = [line for line in site.server.log().splitlines() if "was sent away" in line]
    assert f"{bridge} never says that a reader left" in line
    assert "EventStreamASGI(app)" in line
