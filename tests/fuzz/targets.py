"""One target for each parser: made to be called many thousand times, each time with other input.

A target is made once, then called with a source of randomness; it raises where a promise is broken.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

from flask import Flask

from flask_eventstream import EventStream
from flask_eventstream.access.links import Link, read_link, sign_link
from flask_eventstream.access.rules import ChannelRule, Rules
from flask_eventstream.access.ticket import is_good, make_ticket, sign_ticket
from flask_eventstream.brokers import broker_from_url
from flask_eventstream.brokers.redis.message import Unreadable, decode_message, encode_body
from flask_eventstream.doctor.address import Address
from flask_eventstream.doctor.told import read_told
from flask_eventstream.doctor.visit import Visit
from flask_eventstream.errors import InvalidEvent
from flask_eventstream.event import Event
from flask_eventstream.framing import encode_chunk, rewrite_head, says_http_1_1, status_of
from flask_eventstream.hub.request import StreamRequest
from flask_eventstream.log.entries import Entry, Missed, Retention
from flask_eventstream.log.position import Position, compose, decompose
from fuzz.nasty import binary, damaged, json_value, one_of, text
from harness.event_stream import EventStreamParser
from harness.http_response import HttpResponse

__all__ = ["TARGETS", "Target"]

Target = Callable[[Random], object]
KEEP = Retention(1000, 86_400.0)


def maybe(random: Random, value: Any) -> Any:
    return value if random.random() < 0.5 else None


def assert_one_event(event: Event) -> None:
    """On the wire it is one event with exactly these fields, however the network cuts it."""
    wire = event.encode("aaaaaaaa-7")
    parser = EventStreamParser()
    (seen,) = parser.feed(wire[: len(wire) // 2]) + parser.feed(wire[len(wire) // 2 :])

    assert seen["data"] == event.data.replace("\r\n", "\n").replace("\r", "\n"), event
    assert seen["type"] == (event.type or "message"), event
    assert seen["id"] == (event.id or "aaaaaaaa-7"), event
    assert seen["retry"] == event.retry, event
    assert EventStreamParser().feed(encode_chunk(wire).split(b"\r\n", 1)[1]) == [seen]


def events(random: Random) -> None:
    """What is published is refused in words, or reaches the page as it was."""
    data = json_value(random) if random.random() < 0.3 else text(random)
    fields = [maybe(random, text(random, 3)) for _ in range(2)]
    retry = maybe(random, random.choice([0, -1, 2**31, 2**40, 1000, True, "1000", "\u0661", 1.5]))
    try:
        event = Event(data, *fields, retry)
    except InvalidEvent:
        return
    assert_one_event(event)


def positions(random: Random) -> None:
    """What a client sends as its last event ID is a position, several, or something else."""
    sent = one_of(random, "aaaaaaaa-7", "m.00000000_aaaaaaaa-7_bbbbbbbb-8")
    position = Position.parse(sent)
    assert position is None or str(position) == sent

    names = {text(random, 2).encode("utf-8", "replace").decode() for _ in range(3)}
    found = decompose(sent, names)
    assert found is None or set(found) == names
    whole = compose(dict.fromkeys(names, "aaaaaaaa-7"))
    assert decompose(whole, names) == dict.fromkeys(names, "aaaaaaaa-7")
    if damaged_id := decompose(damaged(random, whole), names):
        assert set(damaged_id) == names


def heads(random: Random) -> None:
    """Whatever a server writes as its head, ours has one end, and one framing."""
    lines = [one_of(random, "HTTP/1.1 200 OK", "HTTP/1.0 200 OK", "HTTP/1.1 403 No")]
    ordinary = ("Server: x", "Content-Length: 5", "Transfer-Encoding: chunked")
    more = ("Connection: keep-alive", "Content-Encoding: gzip", "Set-Cookie: a=b")
    lines += [one_of(random, *ordinary, *more) for _ in range(random.randrange(5))]
    written = "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogatepass")
    sent = written.partition(b"\r\n\r\n")[0]  # as the hub reads it
    chunked = says_http_1_1(sent)
    made = rewrite_head(sent, chunked=chunked)

    assert made.endswith(b"\r\n\r\n")
    assert made.count(b"\r\n\r\n") == 1
    assert 0 <= status_of(sent) <= 999
    names = [line.partition(b":")[0].strip().lower() for line in made.split(b"\r\n")]
    assert names.count(b"connection") == 1
    assert names.count(b"transfer-encoding") == chunked
    assert b"content-length" not in names
    with suppress(ValueError, IndexError, AssertionError):  # it may be no head at all
        HttpResponse().feed(made)


def requests(random: Random) -> None:
    """A request that another process sent is one of ours, or refused as none."""
    good = StreamRequest(("a", "b")).to_json()
    sent = damaged(random, good) if random.random() < 0.5 else json.dumps(json_value(random))
    with suppress(ValueError):
        StreamRequest.from_json(sent)


class Links:
    """No link or ticket but ours is good, whatever is sent."""

    def __init__(self) -> None:
        self.link = Link(("orders:42",), issued_at=1.0, until=2.0, subject="ann")
        self.signed = sign_link(self.link, keys=["key"], application="shop")
        self.other = sign_link(self.link, keys=["key"], application="other")
        self.ticket = sign_ticket(make_ticket(1e9), "key")

    def __call__(self, random: Random) -> None:
        sent = one_of(random, self.signed, self.other, self.signed.replace(".", "_", 1))
        found = read_link(sent, keys=["old", "key"], application="shop")
        assert found is None or (found == self.link and same(sent, self.signed)), sent

        shown = one_of(random, self.ticket)
        good = is_good(shown, key="key", now_s=1e9, has_ended=lambda _: False)
        assert not good or same(shown, self.ticket), shown


def same(shown: str, signed: str) -> bool:
    """True for two spellings of one token: base64 passes over foreign signs and some last bits."""
    letters = re.sub(r"[^A-Za-z0-9_.-]", "", shown).rstrip(".")
    return letters[: len(signed) - 1] == signed[:-1]


class Names:
    """A name falls under a rule only as the rule would write it."""

    def __init__(self) -> None:
        def decide(**_: object) -> bool:
            return True

        patterns = (
            "orders:<int:n>",
            "user:<uuid:id>",
            "news",
            "<string(length=2):lang>:x",
            "p/<path:p>",
        )
        self.rules = Rules(tuple(ChannelRule(each, decide, {}) for each in patterns))

    def __call__(self, random: Random) -> None:
        name = one_of(random, "orders:42", "news", "cs:x", "p/a/b",
                      "user:12345678-1234-5678-1234-567812345678")  # fmt: skip
        found = self.rules.match(name)
        if found is not None and found.rule.pattern == "orders:<int:n>":
            assert name == f"orders:{found.values['n']}"
        if found is not None and found.rule.pattern == "news":
            assert name == "news"


def messages(random: Random) -> None:
    """Whatever somebody publishes to Redis is skipped, or is one event of its channel."""
    event = Event(text(random).encode("utf-8", "replace").decode())
    good = '{"id":"aaaaaaaa-7", ' + encode_body(event)
    way = random.random()
    if way < 0.4:
        raw = damaged(random, good).encode("utf-8", "surrogatepass")
    elif way < 0.7:
        raw = json.dumps(json_value(random)).encode()
    else:
        raw = binary(random)
    try:
        message = decode_message(raw)
    except Unreadable:
        return
    entry = message.entry("a", 7)
    assert entry.channel == "a"
    if message.event is not None:
        assert_one_event(message.event)


class Log:
    """A made-up id costs little and gives nothing of another channel; nor do damaged rows.

    Args:
        url: A broker's; that of a file is damaged, too.
    """

    def __init__(self, url: str, file: Path | None = None) -> None:
        self.loop = asyncio.new_event_loop()
        self.file = file
        self.broker = broker_from_url(url, retention=KEEP, timeout_s=5.0)
        for number in range(100):
            self.broker.publish("mine", Event(f"mine {number}"))
            self.broker.publish("other", Event("secret", id=f"secret-{number}"))
        self.last = self.broker.publish("other", Event("secret"))
        self.heard: list[Entry] = []
        self.listener = self.loop.run_until_complete(self._listen())

    async def _listen(self) -> Any:
        listener = self.broker.listen(self.loop, self)
        await listener.subscribe(["mine"])
        return listener

    def deliver(self, entries: Any) -> None:
        self.heard += entries

    def interrupted(self, channels: object, position: str) -> None:
        """It says so."""

    def __call__(self, random: Random) -> None:
        if self.file is not None and random.random() < 0.1:
            self._damage(random, self.file)
        sent = one_of(random, self.last, "secret-7", "secret-x", "m.00000000_aaaaaaaa-7")
        asked = sent.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
        standing = self.broker.arrive(("mine",), asked)
        if asked in {"secret-7", "secret-x"}:  # there, and not there: nobody can tell which
            assert isinstance(standing, Missed)
        page = self.loop.run_until_complete(
            asyncio.wait_for(self.listener.replay(["mine"], asked), 20)
        )
        assert {entry.channel for entry in page.entries} <= {"mine"}
        assert len(page.entries) <= 256
        assert {entry.channel for entry in self.heard} <= {"mine"}
        for entry in page.entries[-3:]:
            if entry.event is not None:
                assert_one_event(entry.event)

    def _damage(self, random: Random, file: Path) -> None:
        column = random.choice(["data", "type", "id", "retry", "kind", "at_ms"])
        value = random.choice([binary(random), random.randrange(-(2**62), 2**62), None, 1e300,
                               text(random).encode("utf-8", "replace").decode()])  # fmt: skip
        with closing(sqlite3.connect(file)) as db, suppress(sqlite3.IntegrityError), db:
            db.execute(
                f"UPDATE sse_events SET {column} = ? WHERE sequence = ?",  # noqa: S608
                (value, random.randrange(1, 200)),
            )

    def close(self) -> None:
        self.listener.stop()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.broker.close()
        self.loop.close()
        if self.file is not None:
            shutil.rmtree(self.file.parent)


class View:
    """Whatever is in the query and the headers of a stream's request, the answer is an answer.

    To who may not read a channel it is the same whether that has events, has ended, or never was.
    """

    def __init__(self) -> None:
        app = Flask("fuzzed")
        app.config.update(SSE_BROKER_URL="memory://", SSE_PUBLIC=True, SSE_HANDOFF="off")
        app.secret_key = "key"
        stream = EventStream(app)
        stream.channel("a")(lambda: True)
        stream.channel("open:<int:n>")(lambda n: n > 0)
        with app.app_context():
            for channel in ("a", "its-full", "its-over"):
                stream.publish("first", channel=channel, id="own")
            stream.end("its-over")
        self.client = app.test_client()

    def __call__(self, random: Random) -> None:
        names = ("channel", "lastEventId", "grant", "client", "padding", "from", "last", "x")
        query = "&".join(
            f"{random.choice(names)}={quote(text(random, 4), errors='replace')}"
            for _ in range(random.randrange(5))
        )
        if random.random() < 0.3:
            query = damaged(random, query).encode("ascii", "ignore").decode()
        query = "".join(sign for sign in query if " " < sign < "\x7f" and sign != "#")
        headers = {}
        for name in ("Last-Event-ID", "SSE-Doctor", "X-SSE-Client", "Origin", "User-Agent"):
            value = text(random, 3).encode("utf-8", "replace").decode("latin-1")
            if random.random() < 0.4 and not set(value) & set("\r\n"):
                headers[name] = value
        method = random.choice(["HEAD", "HEAD", "OPTIONS", "POST"])
        answer = self.client.open(f"/stream?{query}", method=method, headers=headers)

        assert answer.status_code in {200, 204, 400, 403, 405}, (query, headers)
        for name, value in answer.headers:
            assert not set(name + value) & {"\r", "\n"}, (query, headers)
        answer.close()
        answers = set()
        for channel in ("its-full", "its-over", "its-none"):
            refused = self.client.get(f"/stream?channel={channel}&{query}", headers=headers)
            answers.add((refused.status_code, refused.text.replace(channel, "…")))
        assert len(answers) == 1, (query, headers)
        assert {status for status, _ in answers} <= {400, 403}, (query, headers)


PIECES = (
    *("HTTP/1.1 200 OK\r\n", "Content-Type: text/event-stream\r\n", "\r\n"),
    *("Transfer-Encoding: chunked\r\n", "Content-Length: 9\r\n", "Content-Encoding: gzip\r\n"),
    *("5\r\nhello\r\n", "0\r\n\r\n", "-5\r\n", "HTTP/1.1 103 Early\r\n\r\n", "data: x\n\n"),
)


def visits(random: Random) -> None:
    """Whatever a server answers to the doctor, the visit ends with the connection, in a word."""
    theirs, ours = socket.socketpair()

    class There(Address):
        def connect(self, protocols: list[str], *, within_s: float) -> socket.socket:
            return ours

    address = There("http://x/s", "x", 80, is_tls=False, target="/s", authority="x")
    with closing(theirs), Visit(address, {}, within_s=10) as visit:
        for _ in range(random.randrange(12)):
            piece = random.choice(PIECES) if random.random() < 0.8 else text(random, 2)
            theirs.sendall(piece.encode("utf-8", "surrogatepass"))
        theirs.shutdown(socket.SHUT_WR)
        visit.wait_head(within_s=10)
        visit.read_line(within_s=10)
        visit.wait_for(b"never comes", within_s=10)

        assert visit.ended in {"finished", "closed", "cut", "broken"}
    told = read_told(one_of(random, json.dumps({"pid": 7, "server": "x", "heartbeat_s": 15})))
    assert all(type(value) in {int, float, str, bool} for value in told.values())


def sqlite_log() -> Log:
    folder = Path(tempfile.mkdtemp())
    return Log(f"sqlite:///{folder / 'events.db'}", folder / "events.db")


#: By name: how to make it.
TARGETS: dict[str, Callable[[], Any]] = {
    "events": lambda: events,
    "positions": lambda: positions,
    "heads": lambda: heads,
    "requests": lambda: requests,
    "links": Links,
    "names": Names,
    "redis-messages": lambda: messages,
    "memory-log": lambda: Log("memory://"),
    "sqlite-log": sqlite_log,
    "view": View,
    "doctor": lambda: visits,
}
