"""`flask_eventstream.servers.asgi.body`: what is waited for, how long, and what is handed on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flask_eventstream.servers.asgi.body import BodyLate, ClientLeft, RequestBody
from servers.asgi.asgi_client import run

Piece = tuple[bytes, bool]


def a_body(*pieces: Piece, max_bytes: int | None = None, **said: Any) -> RequestBody:
    """A body of pieces, each with the word whether more follows; then nothing comes."""
    left = list(pieces)

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.Event().wait()
        data, more = left.pop(0)
        return {"type": "http.request", "body": data, "more_body": more}

    scope = {"http_version": "1.1", "headers": [], **said}
    return RequestBody(scope, receive, max_bytes=max_bytes)


async def read_all(body: RequestBody) -> bytes:
    read = b""
    while True:
        message = await body.receive()
        read += message["body"]
        if not message["more_body"]:
            return read


LENGTH_3 = [(b"content-length", b"3")]
CHUNKED = [(b"transfer-encoding", b"chunked")]


@pytest.mark.parametrize(
    ("said", "pieces", "whole"),
    [
        ({"headers": LENGTH_3}, [(b"abc", False)], b"abc"),
        ({"headers": LENGTH_3}, [(b"a", True), (b"", True), (b"bc", False)], b"abc"),
        ({"headers": CHUNKED}, [(b"abc", True), (b"", False)], b"abc"),
        ({"headers": CHUNKED}, [(b"", False)], b""),
        ({"http_version": "2"}, [(b"abc", False)], b"abc"),
        ({"http_version": "2"}, [(b"", False)], b""),
        ({"headers": LENGTH_3}, [(b"x" * 70_000, True), (b"y" * 70_000, False)], None),
    ],
)
def test_a_body_is_taken_in(said: Any, pieces: list[Piece], whole: bytes | None) -> None:
    """What came in pieces is handed on whole, and its length is said."""

    async def test() -> None:
        body = a_body(*pieces, **said)
        await body.take_in()
        read = await read_all(body)
        lengths = [value for name, value in body.headers() if name == b"content-length"]
        body.close()

        assert read == (b"".join(data for data, _ in pieces) if whole is None else whole)
        assert lengths == ([b"%d" % len(read)] if read else [])

    run(test())


def test_what_has_no_body_is_not_waited_for() -> None:
    """A request of HTTP/1.1 that announces nothing has nothing; its server is not asked."""

    async def test() -> None:
        await a_body().take_in()
        await a_body(headers=[(b"content-length", b"0")]).take_in()

    run(test())


@pytest.mark.parametrize(
    "said", [{"headers": LENGTH_3}, {"headers": CHUNKED}, {"http_version": "2"}]
)
def test_who_sends_nothing_is_late(said: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that does not come is given up after its time."""
    monkeypatch.setattr("flask_eventstream.servers.asgi.body.PATIENCE_S", 0.02)

    async def test() -> None:
        body = a_body((b"a", True), **said)
        with pytest.raises(BodyLate):
            await body.take_in()
        body.close()

    run(test())


def test_what_came_buys_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large body may take longer than a small one: its client is not slow."""
    monkeypatch.setattr("flask_eventstream.servers.asgi.body.PATIENCE_S", -1.0)

    async def test() -> None:
        body = a_body((b"x" * 10_000, True), (b"y", False), http_version="2")
        with pytest.raises(BodyLate):
            await body.take_in()
        body._size = 10_000  # as if they had come in time
        await body.take_in()
        body.close()

    run(test())


def test_who_left_has_no_request() -> None:
    """A client that leaves in the middle of its body is no request."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def test() -> None:
        body = RequestBody({"headers": LENGTH_3}, receive, max_bytes=None)
        with pytest.raises(ClientLeft):
            await body.take_in()

    run(test())


def test_what_is_too_large_is_left() -> None:
    """Of a body that is larger than the application takes, no more is kept than shows it."""

    async def test() -> None:
        announced = a_body(headers=LENGTH_3, max_bytes=2)
        await announced.take_in()
        chunked = a_body((b"ab", True), (b"c", True), headers=CHUNKED, max_bytes=2)
        await chunked.take_in()

        assert announced.headers() == LENGTH_3
        assert chunked.headers() == LENGTH_3
        chunked.close()

    run(test())


def test_ambiguous_names_are_dropped() -> None:
    """Of two names that are one under WSGI, the one with an underscore is no header."""
    said = [(b"x-user", b"ada"), (b"x_user", b"eve"), (b"content_length", b"9")]

    assert a_body(headers=said).headers() == said[:1]
