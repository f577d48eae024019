"""How long a publish takes when Redis does not answer, and what its error says then."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from flask_eventstream.brokers import Broker, broker_from_url
from flask_eventstream.errors import BrokerUnavailable
from flask_eventstream.event import Event
from harness.ports import HOST, free_port
from harness.redis_server import RedisServer, run_proxy, run_redis
from harness.waiting import wait_until

#: What is promised, and what a busy machine adds.
TIMEOUT_S = 1.0
SLACK_S = 0.8
#: "At once", on a busy machine.
AT_ONCE_S = 0.4

Open = Callable[..., Any]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def open_url(stack: ExitStack) -> Open:
    def open_url(url: str, timeout_s: float = TIMEOUT_S) -> Broker:
        broker = broker_from_url(url, retention=None, timeout_s=timeout_s)
        stack.callback(broker.close)
        return broker

    return open_url


@pytest.fixture
def silent(stack: ExitStack) -> Callable[[], str]:
    """Begins a server that accepts and never answers, and gives its address."""

    def begin() -> str:
        listening = stack.enter_context(socket.create_server((HOST, 0)))
        return f"{HOST}:{listening.getsockname()[1]}"

    return begin


def fails(call: Callable[..., object], *arguments: object) -> tuple[BrokerUnavailable, float]:
    """The error, and the seconds until it came."""
    began_s = time.monotonic()
    with pytest.raises(BrokerUnavailable) as caught:
        call(*arguments)
    return caught.value, time.monotonic() - began_s


@pytest.mark.parametrize("servers", [1, 6])
@pytest.mark.parametrize("form", ["redis://{}", "redis+cluster://{}", "redis+sentinel://{}/mine"])
def test_a_publish_takes_no_longer(
    silent: Callable[[], str], open_url: Open, form: str, servers: int
) -> None:
    """However many servers accept and never answer, a publish ends within its time-out.

    After it others fail at once, and nothing is said to come later.
    """
    if form.startswith("redis://") and servers > 1:
        servers = 1
    broker = open_url(form.format(",".join(silent() for _ in range(servers))))

    error, first_s = fails(broker.publish, "a", Event("x"))
    again, second_s = fails(broker.publish, "a", Event("x"))
    _, third_s = fails(broker.publish_many, "a", [Event("x")] * 3)

    assert first_s < TIMEOUT_S + SLACK_S
    assert max(second_s, third_s) < AT_ONCE_S
    assert error.fate == again.fate == "the event is not published"
    assert not error.in_doubt
    assert "it did not answer a moment ago" in str(again)
    assert "catch up" not in str(error)


@pytest.mark.parametrize("form", ["redis://{}", "redis+cluster://{}"])
def test_who_comes_waits_once(silent: Callable[[], str], open_url: Open, form: str) -> None:
    """Asking where a log stands takes half a second once, and then no time."""
    broker = open_url(form.format(silent()), 5)

    _, first_s = fails(broker.arrive, ["a", "b"], None)
    _, second_s = fails(broker.arrive, ["a", "b"], None)

    assert first_s < 0.5 + SLACK_S
    assert second_s < AT_ONCE_S


def test_who_comes_in_vain_keeps_nobody_from_publishing(stack: ExitStack, open_url: Open) -> None:
    """Half a second without an answer is no reason to publish no more."""
    server = stack.enter_context(run_redis())
    broker = open_url(server.url, 5)
    broker.publish("a", Event("x"))
    server.stall()
    try:
        fails(broker.arrive, ["a"], None)
    finally:
        server.resume()

    assert broker.publish("a", Event("x"))


def test_a_server_that_is_back(stack: ExitStack, open_url: Open) -> None:
    """A server that answers again is tried after a while, and then everybody may publish."""
    server = stack.enter_context(run_redis())
    proxy = stack.enter_context(run_proxy(server.port))
    broker = open_url(server.url_at(proxy.port), 0.5)
    broker.publish("a", Event("x"))
    proxy.stall()
    error, _ = fails(broker.publish, "a", Event("lost"))
    proxy.mend()
    answered_s = time.monotonic()

    def is_back() -> bool:
        try:
            broker.publish("a", Event("y"))
        except BrokerUnavailable:
            return False
        return True

    wait_until(is_back, what="a publish")

    assert time.monotonic() - answered_s < 2 + SLACK_S
    assert error.in_doubt
    assert error.fate == "the event may be published all the same"
    assert broker.publish_many("a", [Event("z")] * 3)


def test_a_try_is_short(stack: ExitStack, open_url: Open) -> None:
    """Who tries a server that is still silent waits for half a second, and sends nothing."""
    server = stack.enter_context(run_redis())
    broker = open_url(server.url, 1)
    broker.publish("a", Event("x"))
    server.stall()
    fails(broker.publish, "a", Event("lost"))
    took_s = [
        fails(broker.publish, "a", Event("never sent"))[1]
        for _ in iter_until(time.monotonic() + 3.5)
    ]
    server.resume()

    assert max(took_s) < 0.5 + AT_ONCE_S
    assert sum(one > 0.3 for one in took_s) in (1, 2)
    wait_until(lambda: server.ask("XLEN", "sse:events:{a}") >= 1, what="an answer")
    with server.admin as client:
        logged = [fields["m"] for _, fields in client.xrange("sse:events:{a}")]
    assert not any("never sent" in body for body in logged)


def iter_until(end_s: float) -> Iterator[None]:
    while time.monotonic() < end_s:
        yield
        time.sleep(0.02)


def test_replicas_that_do_not_confirm(stack: ExitStack, open_url: Open) -> None:
    """Waiting for replicas is part of the time, and the event is said to be in doubt."""
    server = stack.enter_context(run_redis())
    replica = stack.enter_context(run_redis(replica_of=server))
    broker = open_url(f"{server.url}?replicas=1")
    broker.publish("a", Event("x"))
    replica.stall()
    error, took_s = fails(broker.publish, "a", Event("y"))
    replica.resume()

    assert took_s < TIMEOUT_S + SLACK_S
    assert error.why == "0 of 1 replicas confirmed the event"
    assert error.in_doubt


def test_a_part_of_many(stack: ExitStack, open_url: Open) -> None:
    """Where some of many events were refused, it is said how many are published."""
    server = stack.enter_context(run_redis(maxmemory="5mb"))
    broker = open_url(server.url, 5)

    error, _ = fails(broker.publish_many, "a", [Event("x" * 100_000)] * 100)
    published = server.ask("XLEN", "sse:events:{a}")

    assert error.fate == f"{published} of 100 events are published, the rest is not"
    assert str(error).endswith(f"{error.fate}; {error.remedy}")


def test_nobody_listens(stack: ExitStack, open_url: Open) -> None:
    """A refused connection costs no time, so it is tried each time, and works at once again."""
    server = stack.enter_context(run_redis())
    broker = open_url(server.url)
    server.stop()
    error, took_s = fails(broker.publish, "a", Event("x"))
    server.start()

    assert took_s < AT_ONCE_S
    assert not error.in_doubt
    assert broker.publish("a", Event("x"))


# ---- faults that stay


def remedy(server_url: str, open_url: Open) -> str:
    return fails(open_url(server_url).publish, "a", Event("x"))[0].remedy


@pytest.fixture(scope="module")
def node() -> Iterator[RedisServer]:
    # Its own choice, the port and ten thousand, may be no port at all.
    bus = ("--cluster-port", str(free_port()))
    with run_redis("--cluster-enabled", "yes", *bus) as server:
        server.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        wait_until(lambda: "cluster_state:ok" in server.ask("CLUSTER", "INFO"), what="a cluster")
        yield server


def test_a_node_of_a_cluster(node: RedisServer, open_url: Open) -> None:
    """Whoever names a cluster's node by `redis://` is told how to name it, by all that asks."""
    broker = open_url(node.url)
    errors = [
        fails(broker.publish, "a", Event("x"))[0],
        fails(broker.arrive, ["a", "b"], None)[0],
    ]

    for error in errors:
        assert error.remedy == "write redis+cluster:// in place of redis:// in the URL"


def test_no_cluster(stack: ExitStack, open_url: Open) -> None:
    """And whoever names a single server by `redis+cluster://`, too."""
    server = stack.enter_context(run_redis())

    said = remedy(f"redis+cluster://{HOST}:{server.port}", open_url)

    assert said == "write redis:// in place of redis+cluster://"


def test_a_sentinel(stack: ExitStack, open_url: Open, tmp_path: Path) -> None:
    """A Sentinel that is named like a server is said to be one."""
    settings = tmp_path / "sentinel.conf"
    settings.write_text("")
    sentinel = RedisServer(tmp_path, ["--sentinel"], password=None, settings=settings)
    stack.callback(sentinel.kill)
    sentinel.start()

    assert remedy(sentinel.url, open_url) == "write redis+sentinel://HOST:PORT/SERVICE in the URL"


@pytest.mark.parametrize("command", ["INFO", "EVAL", "EVALSHA"])
def test_a_renamed_command(stack: ExitStack, open_url: Open, command: str) -> None:
    """A server that lacks one of our commands is said to, with the commands that it must have."""
    server = stack.enter_context(run_redis("--rename-command", command, "SECRET"))
    broker = open_url(server.url)
    for _ in range(2):  # the second is called by its SHA-1
        try:
            broker.publish("a", Event("x"))
        except BrokerUnavailable as error:
            assert "let it have INFO, EVAL, EVALSHA" in error.remedy  # noqa: PT017
            return
    pytest.fail("it was published")
