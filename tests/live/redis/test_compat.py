"""On the wire with others: flask-sse 1.0.0 in a process of its own, redis-cli, and whoever."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask

from flask_eventstream import Event, Message, Publisher, sse
from harness.event_stream import Dispatched
from harness.redis_server import RedisServer, cli_program, run_redis
from harness.servers import Server, serve
from harness.streams import Reader, get, post
from harness.waiting import wait_until
from live.browser.chromium import Tab, chromium
from live.redis.traffic import APPS

# Data that both sides can carry: flask-sse cuts lines where Python does, so none with U+2028.
PAYLOADS: dict[str, dict[str, Any]] = {
    "text": {"data": "plain text"},
    "lines": {"data": "one\ntwo\n\nfour"},
    "unicode": {"data": "żółć 日本 🙂"},
    "object": {"data": {"question": "Why?", "tags": ["ä", None, 1.5]}, "type": "new_answers"},
    "list": {"data": [1, [2], {"three": 3}]},
    "number": {"data": 7},
    "null": {"data": None},
    "typed": {"data": "x", "type": "trade"},
    "own-id": {"data": "x", "id": "order-7"},
    "all": {"data": "x", "type": "trade", "id": "order-8", "retry": 1234},
}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with run_redis() as server:
        yield server


@pytest.fixture(scope="module")
def ours(server: RedisServer) -> Iterator[Server]:
    """This library, configured by flask-sse's own key."""
    with serve("gunicorn-sync", "plain:app", cwd=APPS, env=settings(server)) as worker:
        yield worker


@pytest.fixture(scope="module")
def older(server: RedisServer) -> Iterator[Server]:
    """flask-sse 1.0.0, with a thread for each stream."""
    threads = ["--threads", "32", "--graceful-timeout", "1"]
    with serve(
        "gunicorn-gthread", "older:app", cwd=APPS, env=settings(server), options=threads
    ) as worker:
        yield worker
        worker.kill()  # its streams would hold it


def settings(server: RedisServer) -> dict[str, str]:
    return {"FLASK_REDIS_URL": server.url}


@pytest.fixture
def channel() -> str:
    return f"c-{uuid4().hex}"


def wait_subscribed(server: RedisServer, channel: str) -> None:
    wait_until(
        lambda: server.ask("PUBSUB", "NUMSUB", channel)[1], what=f"a subscription to {channel}"
    )


def redis_cli(server: RedisServer, *command: str) -> None:
    arguments = [cli_program(), "-p", str(server.port), *command]
    subprocess.run(arguments, check=True, capture_output=True, timeout=10)


@pytest.fixture
def reader(server: RedisServer, ours: Server, channel: str) -> Iterator[Reader]:
    """A stream of ours on the test's channel."""
    with Reader(f"{ours.url}/stream?channel={channel}") as reader:
        wait_until(lambda: reader.comments, what="the first byte")
        wait_subscribed(server, channel)
        yield reader


def assert_same(event: Dispatched, payload: dict[str, Any]) -> None:
    if isinstance(payload["data"], str):
        assert event["data"] == payload["data"]
    else:
        assert json.loads(event["data"]) == payload["data"]
    assert event["type"] == payload.get("type", "message")
    assert event["retry"] == payload.get("retry", event["retry"])


@pytest.mark.parametrize("name", PAYLOADS)
def test_what_flask_sse_publishes(older: Server, reader: Reader, channel: str, name: str) -> None:
    """An event that flask-sse 1.0.0 publishes reaches a stream of ours as it was meant."""
    payload = PAYLOADS[name]
    body = json.dumps({**payload, "channel": channel}).encode()
    post(f"{older.url}/publish", body, {"content-type": "application/json"})

    event = reader.next_event()

    assert_same(event, payload)
    assert event["id"] == payload.get("id", "")


@pytest.mark.parametrize("name", PAYLOADS)
def test_what_flask_sse_reads(server: RedisServer, older: Server, channel: str, name: str) -> None:
    """An event that we publish reaches a stream of flask-sse 1.0.0 as it was meant."""
    payload = PAYLOADS[name]
    with ThreadPoolExecutor(1) as threads:
        # It sends nothing, not even its head, before the first event.
        opening = threads.submit(Reader, f"{older.url}/stream?channel={channel}")
        wait_subscribed(server, channel)
        event_id = Publisher(server.url).publish(**payload, channel=channel)
        with opening.result(10) as reader:
            event = reader.next_event()

    assert_same(event, payload)
    assert event["id"] == event_id


def test_flask_sse_survives_the_end_of_a_channel(
    server: RedisServer, older: Server, channel: str
) -> None:
    """A reader of flask-sse gets the end of a channel as an event, and goes on."""
    publisher = Publisher(server.url)
    with ThreadPoolExecutor(1) as threads:
        opening = threads.submit(Reader, f"{older.url}/stream?channel={channel}")
        wait_subscribed(server, channel)
        publisher.end(channel)
        publisher.publish("after", channel=channel)
        with opening.result(10) as reader:
            events = [reader.next_event(), reader.next_event()]

    assert [event["type"] for event in events] == ["stream-end", "message"]


# ---- redis-cli


def test_redis_cli_reaches_a_stream(server: RedisServer, ours: Server) -> None:
    """`redis-cli PUBLISH sse {…}` reaches a stream of the default channel of a gunicorn worker."""
    with Reader(f"{ours.url}/stream") as reader:
        wait_until(lambda: reader.comments, what="the first byte")
        wait_subscribed(server, "sse")
        text = '{"data": {"question": "Why?"}, "type": "new_answers"}'
        redis_cli(server, "PUBLISH", "sse", text)

        event = reader.next_event()

    assert (event["type"], event["data"]) == ("new_answers", '{"question": "Why?"}')


def test_redis_cli_reaches_a_page(
    server: RedisServer, ours: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The same message reaches a listener for its type in Chromium."""
    with chromium(tmp_path_factory.mktemp("chromium")) as driver:
        tab = Tab(driver)
        tab.open(f"{ours.url}/page")
        wait_until(lambda: tab.run("return source.readyState") == 1, what="the page's stream")
        wait_subscribed(server, "sse")
        text = '{"data": {"question": "Why?"}, "type": "new_answers"}'
        redis_cli(server, "PUBLISH", "sse", text)

        got = wait_until(lambda: tab.run("return received"), what="the event in the page")
        tab.close()

    assert got == [{"question": "Why?"}]


@pytest.mark.parametrize(
    ("text", "kind", "data"),
    [
        ('["new_answers", {"question": 1}]', "new_answers", '{"question": 1}'),
        ('["note", "text"]', "note", "text"),
        ("[12:00] me: hi", "message", "[12:00] me: hi"),
        ("just text", "message", "just text"),
        ("żółć 🙂", "message", "żółć 🙂"),
    ],
)
def test_other_forms(
    server: RedisServer, reader: Reader, channel: str, text: str, kind: str, data: str
) -> None:
    """The two-element array of the older extension and bare text reach a stream."""
    redis_cli(server, "PUBLISH", channel, text)

    event = reader.next_event()

    assert (event["type"], event["data"], event["id"]) == (kind, data, "")


def test_unreadable_messages_end_no_stream(
    server: RedisServer, ours: Server, reader: Reader, channel: str
) -> None:
    """What can't be read is skipped, logged once per kind, and the stream goes on."""
    for _ in range(3):
        for text in ('{"type": "no data"}', '{"data": "x", "type": "a\\nb"}'):
            redis_cli(server, "PUBLISH", channel, text)
    Publisher(server.url).publish("next", channel=channel)

    assert reader.next_event()["data"] == "next"
    assert ours.log().count("was skipped, no data") == 1
    assert ours.log().count("was skipped, invalid field") == 1


# ---- both kinds of events on one stream


def test_a_foreign_event_leaves_the_position(
    server: RedisServer, ours: Server, reader: Reader, channel: str
) -> None:
    """After an event without an id a reader resumes from the last one of ours, missing nothing."""
    publisher = Publisher(server.url)
    position = publisher.publish("ours", channel=channel)
    redis_cli(server, "PUBLISH", channel, "theirs")
    publisher.publish("ours again", channel=channel)
    events = [reader.next_event() for _ in range(3)]

    with Reader(f"{ours.url}/stream?channel={channel}", {"Last-Event-ID": events[1]["id"]}) as back:
        assert back.next_event()["data"] == "ours again"
    assert [event["data"] for event in events] == ["ours", "theirs", "ours again"]
    assert events[1]["id"] == position


def test_an_application_publishes(server: RedisServer, ours: Server) -> None:
    """`sse.publish` in a view of one process and `Publisher` in another reach the same readers."""
    with Reader(f"{ours.url}/stream") as stream:
        wait_until(lambda: stream.comments, what="the first byte")
        wait_subscribed(server, "sse")
        first = post(f"{ours.url}/publish").text
        second = Publisher(server.url).publish(Event("two"))

        assert [stream.next_event()["id"] for _ in range(2)] == [first, second]


# ---- what a program had of flask-sse beside publish and stream


@pytest.fixture(params=["gunicorn-sync", "gunicorn-gevent"])
def overriding(request: pytest.FixtureRequest, server: RedisServer) -> Iterator[Server]:
    """A subclass with `messages` and `redis` of its own, with and without greenlets."""
    env = {"FLASK_SHOP_REDIS": server.url}
    with serve(request.param, "overriding:app", cwd=APPS, env=env) as worker:
        yield worker


def test_what_is_overridden_is_asked(server: RedisServer, overriding: Server, channel: str) -> None:
    """On the server of the overridden `redis` only what `messages` yields reaches the streams."""
    url = f"{overriding.url}/stream?channel={channel}"
    with Reader(url) as one, Reader(url) as other:
        wait_until(
            lambda: server.ask("PUBSUB", "NUMSUB", channel)[1] == 2, what="both to be subscribed"
        )
        publisher = Publisher(server.url)
        publisher.publish("hidden", type="secret", channel=channel)
        publisher.publish({"a": 1}, type="shown", channel=channel)
        events = [one.next_event(), other.next_event()]

        assert [(e["type"], e["data"]) for e in events] == 2 * [("shown", '{"a": 1}')]
        assert get(f"{overriding.url}/ping").text == "pong"
        assert channel in json.loads(get(f"{overriding.url}/channels").text)


@pytest.fixture
def app(server: RedisServer) -> Flask:
    """An application in the test's own process."""
    app = Flask("app_under_test")
    app.config["SSE_REDIS_URL"] = server.url
    app.register_blueprint(sse, url_prefix="/stream")
    return app


def test_the_client_is_of_the_same_server(
    server: RedisServer, app: Flask, ours: Server, channel: str
) -> None:
    """`sse.redis` runs commands on the server that has the log, as a heartbeat job did."""
    with Reader(f"{ours.url}/stream?channel={channel}"):
        wait_subscribed(server, channel)
        with app.app_context():
            assert channel.encode() in sse.redis.pubsub_channels()
            assert sse.redis.publish(channel, '{"data": "x"}') == 1


def test_messages_are_what_was_published(app: Flask, server: RedisServer, channel: str) -> None:
    """`sse.messages()` gives objects, texts and ids as they were published, by whomever."""
    published: list[dict[str, Any]] = [
        *({"data": {"a": [1, None]}}, {"data": '{"a": 1}'}, {"data": 7}, {"data": "7"}),
        {"data": None, "type": "t", "id": "own", "retry": 5},
    ]
    with app.app_context(), ThreadPoolExecutor(1) as threads:
        messages = sse.messages(channel)
        first = threads.submit(next, messages)
        wait_subscribed(server, channel)
        for fields in published:
            sse.publish(**fields, channel=channel)
        redis_cli(server, "PUBLISH", channel, '{"data": [1.5], "id": 8}')
        found = [first.result(10), *(next(messages) for _ in published)]
        messages.close()  # type: ignore[attr-defined]

    assert found == [*(Message(**fields) for fields in published), Message([1.5], id="8")]
