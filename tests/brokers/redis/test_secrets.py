"""Passwords: whatever goes wrong, nobody is shown one."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from flask import Flask

from brokers.hearing import Ear
from flask_eventstream import EventStream, Publisher
from flask_eventstream.brokers import Broker, broker_from_url
from flask_eventstream.brokers.redis.url import RedisUrl
from flask_eventstream.config import Config
from flask_eventstream.errors import EventStreamError
from flask_eventstream.event import Event
from harness.ports import free_port
from harness.redis_server import RedisServer, run_redis

SECRET = "S3CRET"

Listen = Callable[..., Ear]


def shown_of(error: BaseException) -> str:
    """All that a log, a page for errors or a debugger would print of an error."""
    link: BaseException | None = error
    said = ["".join(traceback.format_exception(error))]
    while link is not None:
        said += [str(link), repr(link), repr(link.args), repr(vars(link))]
        link = link.__cause__
    return "\n".join(said)


def refused(call: Callable[..., Any], *arguments: Any) -> str:
    with pytest.raises(EventStreamError) as caught:
        call(*arguments)
    return shown_of(caught.value)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A server that wants another password."""
    with run_redis(password="another") as server:
        yield server


@pytest.mark.parametrize(
    "url",
    [
        *(f"redis://:{SECRET}[@host", f"redis://:{SECRET}/@host", f"redis://:/{SECRET}@host"),
        *(f"redis://:{SECRET}?@host", f"redis://:{SECRET}#@host", f"redis://:#{SECRET}@host"),
        *(f"redis://:{SECRET}@host:port", f"redis://:{SECRET}", f"redis://me:{SECRET}"),
        *(f"redis://:{SECRET}@one,two", f"redis://:{SECRET}@host/x", f"redis//:{SECRET}@host"),
        *(f"redis://:12/{SECRET}@host", f"redis://:12?{SECRET}@host", f"rediss://{SECRET}:@h:x"),
        *(f"redis://:{SECRET}@host?x=1", f"redis://host?password={SECRET}&x=1", f":{SECRET}@host"),
        *(f"redis+sentinel://:{SECRET}@one", f"redis+sentinel://me:{SECRET}", f"x://:{SECRET}@h"),
        f"redis+sentinel://one/mine/x?sentinel_password={SECRET}",
        *(f"redis+cluster://:{SECRET}@one/0", f"redis+cluster://one,two:{SECRET}"),
        *(f"redis+cluster://me:{SECRET}@one:99999", f"rediss://:{SECRET}@h?ssl_cert_reqs=x"),
        *(f"redis://:{SECRET}@h?db=x", f"redis://:{SECRET}@h?ssl_ca_certs=x"),
        *(f"redis://:{SECRET}@h?prefix=%7B", f"redis://:{SECRET}@h?replicas=x"),
        f"sqlite://:{SECRET}@host",
    ],
)
def test_a_url_with_a_mistake(url: str) -> None:
    """A password in a URL that is refused is in nothing that is said about it."""
    app = Flask(__name__)
    app.config["SSE_BROKER_URL"] = url

    def register() -> None:
        EventStream(app).state()

    with app.app_context():
        assert SECRET not in refused(register)
    assert SECRET not in refused(Publisher, url)


def test_a_url_of_another_type() -> None:
    """So it is with a setting that is no text."""
    assert SECRET not in refused(
        Config.from_mapping, {"SSE_BROKER_URL": f"redis://:{SECRET}@h".encode()}
    )


@pytest.mark.parametrize(
    "url",
    [
        f"redis://me:{SECRET}@host/0?prefix=x",
        f"rediss+cluster://me:{SECRET}@host",
        f"redis+sentinel://:{SECRET}@host/mine?sentinel_password={SECRET}2",
        f"redis://host?password={SECRET}",
    ],
)
def test_what_objects_look_like(url: str) -> None:
    """The settings, the URL and the broker are printed without passwords."""
    config = Config.from_mapping({"SSE_BROKER_URL": url})
    parsed = RedisUrl.parse(url, key="SSE_BROKER_URL")
    broker = broker_from_url(url, retention=None, timeout_s=1)

    for shown in (config, parsed, broker, broker.url, Publisher(url)):
        assert SECRET not in f"{shown!s} {shown!r}"


def places(server: RedisServer) -> dict[str, str]:
    nowhere = free_port()
    return {
        "wrong password": f"redis://:{SECRET}@127.0.0.1:{server.port}/0",
        "nobody there": f"redis://:{SECRET}@127.0.0.1:{nowhere}/0",
        "no such host": f"redis://:{SECRET}@nowhere.invalid/0",
        "Sentinels not there": f"redis+sentinel://:{SECRET}@127.0.0.1:{nowhere}/mine"
        f"?sentinel_password={SECRET}",
        "Sentinels with another password": f"redis+sentinel://:{SECRET}@127.0.0.1:{server.port}/m"
        f"?sentinel_password={SECRET}",
        "no node there": f"redis+cluster://:{SECRET}@127.0.0.1:{nowhere}",
        "nodes with another password": f"redis+cluster://:{SECRET}@127.0.0.1:{server.port}",
        "no TLS": f"rediss://:{SECRET}@127.0.0.1:{server.port}",
    }


@pytest.mark.parametrize(
    "place",
    [
        *("wrong password", "nobody there", "no such host", "Sentinels not there", "no TLS"),
        *("Sentinels with another password", "no node there", "nodes with another password"),
    ],
)
def test_a_server_that_fails(
    server: RedisServer, place: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What publishing, arriving and listening say of a server that fails has no password."""
    caplog.set_level(logging.DEBUG)
    with ExitStack() as stack:
        broker: Any = broker_from_url(places(server)[place], retention=None, timeout_s=2)
        stack.callback(broker.close)
        event = Event("x")

        assert SECRET not in refused(broker.publish, "a", event)
        assert SECRET not in refused(broker.publish_many, "a", [event] * 3)
        assert SECRET not in refused(broker.end, "a")
        assert SECRET not in refused(broker.arrive, ["a"], None)
        assert SECRET not in refused(broker.limits)
        listen_in_vain(broker)
    assert SECRET not in caplog.text
    for record in caplog.records:
        assert record.exc_info is None or SECRET not in shown_of(record.exc_info[1] or Exception())


def listen_in_vain(broker: Broker) -> None:
    class Nobody:
        def deliver(self, entries: Any) -> None: ...
        def interrupted(self, channels: Any, position: Any) -> None: ...

    async def listen() -> None:
        listener = broker.listen(asyncio.get_running_loop(), Nobody())
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(listener.subscribe(["a"]), 0.6)
        stopped = listener.stop()
        if asyncio.iscoroutine(stopped):
            await stopped
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left or not (await asyncio.wait(left, timeout=5))[1]

    asyncio.run(listen())


def test_a_server_that_changes_its_password() -> None:
    """Nor has what is said where a password was good, and is not any more."""
    with run_redis(password=SECRET) as server:
        broker = broker_from_url(server.url, retention=None, timeout_s=2)
        broker.publish("a", Event("x"))
        with server.admin as client:
            client.config_set("requirepass", "another")
            client.client_kill_filter(_type="normal", skipme=True)

        said = refused(broker.publish, "a", Event("x"))
        broker.close()

    assert "it refuses the password" in said
    assert SECRET not in said
