"""The empty body of a handed-off response, and when the hub is given what."""

from __future__ import annotations

import _socket
from collections.abc import Iterator

import pytest

from flask_eventstream.servers.wsgi.parting import Parting

HEAD = b"HTTP/1.1 200 OK\r\nServer: made-by-hand"


@pytest.fixture
def pair() -> Iterator[tuple[_socket.socket, _socket.socket]]:
    """The server's end, and our sink."""
    server, sink = _socket.socketpair()
    sink.settimeout(0)
    yield server, sink
    server.close()
    sink.close()


def test_the_body_is_empty(pair: tuple[_socket.socket, _socket.socket]) -> None:
    """A server that asks for the body gets nothing of it."""
    assert list(Parting(pair[1], lambda _: None)) == []


def test_a_whole_head_goes_along(pair: tuple[_socket.socket, _socket.socket]) -> None:
    """What the server has written when it closes the body is given, and the sink is closed."""
    server, sink = pair
    given: list[bytes] = []
    server.sendall(HEAD + b"\r\n\r\n0\r\n\r\n")

    Parting(sink, given.append).close()

    assert given == [HEAD]
    assert sink.fileno() == -1


@pytest.mark.parametrize("written", [b"", HEAD, HEAD + b"\r\n"])
def test_half_a_head_is_left_where_it_is(
    pair: tuple[_socket.socket, _socket.socket], written: bytes
) -> None:
    """Where the head is not complete the hub is to read it: nothing of it is taken."""
    server, sink = pair
    given: list[bytes] = []
    server.sendall(written)

    Parting(sink, given.append).close()

    assert given == [b""]
    server.sendall(b".")
    assert sink.recv(1000) == written + b"."


def test_it_gives_once(pair: tuple[_socket.socket, _socket.socket]) -> None:
    """A server may close the body twice; the stream is given to the hub once."""
    given: list[bytes] = []
    parting = Parting(pair[1], given.append)
    parting.close()
    parting.close()
    del parting

    assert given == [b""]


def test_forgotten_is_as_good_as_closed(pair: tuple[_socket.socket, _socket.socket]) -> None:
    """Middleware that drops the body without closing it does not keep the stream from opening."""
    given: list[bytes] = []
    parting = Parting(pair[1], given.append)
    del parting

    assert given == [b""]
