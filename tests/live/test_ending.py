"""Workers that end, in order or not: streams end with them, and nothing is lost."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from harness.servers import KINDS
from harness.streams import post
from harness.waiting import wait_until
from live.returning import Returning
from live.site import APPS, GUNICORN, Site

Launch = Callable[..., Site]

# Werkzeug has one process and no reload by SIGHUP; it ends, and is started again. Where SIGTERM
# ends a Python process without its exit hooks, as Werkzeug lets it, there is no goodbye.


@pytest.mark.parametrize("kind", GUNICORN)
def test_sigterm_says_goodbye(kind: str, launch: Launch, channel: str) -> None:
    """Streams get a `retry:` and their end when their worker gets SIGTERM; a new one answers."""
    site = launch(kind)
    old = site.worker
    with site.read(channel) as reader:
        opening = len(reader.raw)
        site.server.signal(signal.SIGTERM, old)
        reader.wait_end(within_s=5)

        assert reader.raw[opening:].startswith(b"retry: ")
    site.wait_replaced(old)


@pytest.mark.parametrize("kind", GUNICORN)
def test_sighup_says_goodbye(kind: str, launch: Launch, channel: str) -> None:
    """Streams get a `retry:` and their end when gunicorn reloads; a new worker answers."""
    site = launch(kind)
    old = site.worker
    with site.read(channel) as reader:
        opening = len(reader.raw)
        site.server.signal(signal.SIGHUP)
        reader.wait_end(within_s=5)

        assert reader.raw[opening:].startswith(b"retry: ")
    site.wait_replaced(old)


@pytest.mark.parametrize("kind", GUNICORN)
def test_a_client_that_takes_nothing_delays_no_reload(
    kind: str, launch: Launch, channel: str
) -> None:
    """A worker with a stream whose client does not read is gone within five seconds of a reload."""
    site = launch(kind, SSE_MAX_BUFFER_BYTES=64 * 1024 * 1024)
    old = site.worker
    with site.read(channel):
        for _ in range(6):
            # More than the kernel's buffers take: some of it waits in the worker.
            site.publish_through_worker("x" * 3_000_000, channel)
        site.server.signal(signal.SIGHUP)

        site.wait_replaced(old, within_s=5)


@pytest.mark.parametrize("kind", GUNICORN)
def test_max_requests_says_goodbye(kind: str, launch: Launch, channel: str) -> None:
    """Streams get a `retry:` and their end when gunicorn recycles their worker."""
    site = launch(kind, options=["--max-requests", "5"])
    old = site.worker
    with site.read(channel) as reader:
        opening = len(reader.raw)
        wait_until(lambda: site.ping() != old, what="a recycled worker")
        reader.wait_end(within_s=5)

        assert reader.raw[opening:].startswith(b"retry: ")


def wait_for_a_successor(site: Site, worker: int) -> None:
    """Where there will be one: a gunicorn worker that is told to stop while it starts is slow."""
    if site.server.kind in GUNICORN:
        site.wait_replaced(worker)


@pytest.mark.parametrize("kind", KINDS)
def test_sigterm_ends_streams(kind: str, launch: Launch, channel: str) -> None:
    """Streams end when the whole server is stopped, and it stops at once."""
    site = launch(kind)
    with site.read(channel) as reader:
        stopped = site.server.stop(within_s=5)
        reader.wait_end(within_s=1)

        assert stopped


@pytest.mark.parametrize("kind", KINDS)
def test_sigkill_ends_streams(kind: str, launch: Launch, channel: str) -> None:
    """Streams end when their worker is killed."""
    site = launch(kind)
    worker = site.worker
    with site.read(channel) as reader:
        site.server.signal(signal.SIGKILL, worker)
        reader.wait_end(within_s=5)
    wait_for_a_successor(site, worker)


@pytest.mark.parametrize("kind", GUNICORN)
def test_a_new_worker_takes_streams(kind: str, launch: Launch, channel: str) -> None:
    """After a worker was killed, its successor opens streams and brings events."""
    site = launch(kind)
    old = site.worker
    with site.read(channel):
        site.server.signal(signal.SIGKILL, old)
        site.wait_replaced(old)
    with site.read(channel) as reader:
        site.publish_through_worker("hello", channel)

        assert reader.next_event()["data"] == "hello"


@pytest.mark.parametrize("kind", KINDS)
def test_a_forked_child_holds_no_stream(kind: str, launch: Launch, channel: str) -> None:
    """A child that a view forked keeps no stream open after the worker is killed."""
    site = launch(kind)
    with site.read(channel) as reader:
        worker, child = site.worker, int(post(f"{site.url}/fork").text)
        site.server.signal(signal.SIGKILL, worker)
        reader.wait_end(within_s=5)

        # It is there to this day, and nobody else would end it.
        site.server.signal(signal.SIGKILL, child)
    wait_for_a_successor(site, worker)


@contextmanager
def publishing(site: Site, channel: str) -> Iterator[Callable[[], str]]:
    """Let another process publish numbers all the time; gives what stops it and says the last."""
    command = [sys.executable, str(APPS / "publishing.py"), site.broker_url, channel]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:

        def stop() -> str:
            return process.communicate("stop\n", timeout=10)[0].strip()

        try:
            yield stop
        finally:
            process.kill()


def reload(site: Site) -> None:
    site.server.signal(signal.SIGHUP)


def kill_worker(site: Site) -> None:
    site.server.signal(signal.SIGKILL, site.worker)


def prove_that_nothing_is_missed(
    site: Site, channel: str, cut: Callable[[Site], object], *, times: int = 1
) -> None:
    """Ten clients come back from each cut, while somebody publishes, and have it all, once."""
    with ExitStack() as stack:
        clients = [stack.enter_context(Returning(site.stream_url(channel))) for _ in range(10)]
        stop = stack.enter_context(publishing(site, channel))
        clients[0].wait_for("20")
        for round_ in range(1, times + 1):
            cut(site)
            for client in clients:
                client.wait_returned(round_)
        last = stop()
        for client in clients:
            client.wait_for(last)

        expected = [str(number) for number in range(int(last) + 1)]
        assert [client.data == expected for client in clients] == [True] * 10


@pytest.mark.parametrize("kind", GUNICORN)
@pytest.mark.parametrize("cut", [reload, kill_worker])
def test_a_new_worker_misses_nothing(
    kind: str, cut: Callable[[Site], object], launch: Launch, channel: str
) -> None:
    """Clients that come back to a new worker, twice, miss nothing and get nothing twice."""
    site = launch(kind, SSE_HISTORY_LENGTH=100_000)

    prove_that_nothing_is_missed(site, channel, cut, times=2)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in GUNICORN])
def test_a_new_server_misses_nothing(kind: str, launch: Launch, channel: str) -> None:
    """Clients that come back to a server started again miss nothing and get nothing twice."""
    site = launch(kind, SSE_HISTORY_LENGTH=100_000)

    def kill_and_start_again(site: Site) -> None:
        site.server.kill()
        launch(kind, port=site.server.port, SSE_HISTORY_LENGTH=100_000)

    prove_that_nothing_is_missed(site, channel, kill_and_start_again)
