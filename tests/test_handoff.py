"""Finding a client's connection, and swapping it, on real sockets."""

from __future__ import annotations

import os
import resource
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from flask_eventstream import handoff
from flask_eventstream.handoff import (
    Client,
    NoClient,
    find_client,
    leave_connection,
    may_chunk,
    swap,
)
from harness.process import descriptors


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The client's end of a connection, and the server's."""
    client, server = socket.socketpair()
    client.settimeout(10)
    with client, server:
        yield client, server


def environ_of(sock: Any, **more: Any) -> dict[str, Any]:
    return {"SERVER_PROTOCOL": "HTTP/1.1", "gunicorn.socket": sock, **more}


# ---- finding


@pytest.mark.parametrize("key", ["gunicorn.socket", "gunicorn.sock", "werkzeug.socket"])
@pytest.mark.parametrize("protocol", ["HTTP/1.0", "HTTP/1.1"])
def test_known_servers_show_their_client(
    pair: tuple[socket.socket, socket.socket], key: str, protocol: str
) -> None:
    """A socket under a known key of an HTTP/1 request is the client's connection."""
    environ = {"SERVER_PROTOCOL": protocol, key: pair[1]}

    assert find_client(environ) == Client(pair[1].fileno())


def test_unknown_servers_show_nothing() -> None:
    """Where no socket is shown the answer names the server."""
    found = find_client({"SERVER_PROTOCOL": "HTTP/1.1", "SERVER_SOFTWARE": "waitress"})

    assert found == NoClient("waitress does not show its sockets to applications")


def test_a_nameless_server_is_this_server() -> None:
    """A server that does not say its name is called this server."""
    found = find_client({"SERVER_PROTOCOL": "HTTP/1.1"})

    assert found == NoClient("this server does not show its sockets to applications")


@pytest.mark.parametrize("protocol", ["HTTP/2.0", "HTTP/2", "HTTP/3", "", None])
def test_only_http_1_is_handed_off(
    pair: tuple[socket.socket, socket.socket], protocol: str | None
) -> None:
    """A connection that other requests share stays with the server."""
    found = find_client(environ_of(pair[1], SERVER_PROTOCOL=protocol))

    assert isinstance(found, NoClient)
    assert "shares one connection between requests" in found.why


def test_a_tls_socket_stays(pair: tuple[socket.socket, socket.socket]) -> None:
    """A connection that the server itself encrypts stays with the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    with context.wrap_socket(pair[1], do_handshake_on_connect=False) as encrypted:
        found = find_client(environ_of(encrypted, SERVER_SOFTWARE="gunicorn"))

    assert found == NoClient("gunicorn ends TLS itself: let a proxy such as nginx do that")


def test_what_looks_like_tls_stays() -> None:
    """An object that has a peer certificate to show is no plain socket."""

    class OtherTls:
        def fileno(self) -> int:
            return 0

        def get_peer_certificate(self) -> None: ...

    assert isinstance(find_client(environ_of(OtherTls())), NoClient)


def test_a_closed_socket_is_no_client() -> None:
    """A connection that is closed already can't be taken."""
    with socket.socket() as sock:
        pass

    assert find_client(environ_of(sock)) == NoClient("the connection is closed")


def test_other_systems_have_no_descriptors(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside POSIX no connection is taken."""
    monkeypatch.setattr(handoff.os, "name", "nt")

    found = find_client(environ_of(pair[1]))

    monkeypatch.undo()
    assert found == NoClient("sockets are no descriptors on this system")


# ---- swapping


def test_the_server_goes_on_with_a_pair(pair: tuple[socket.socket, socket.socket]) -> None:
    """After the swap what the server writes arrives in the sink, and the client hears us alone."""
    client, server = pair
    connection, sink = swap(Client(server.fileno()))
    server.sendall(b"from the server")
    connection.send(b"from us")

    assert sink.recv(100) == b"from the server"
    assert client.recv(100) == b"from us"

    connection.close()
    sink.close()


def test_the_server_reads_the_end_at_once(pair: tuple[socket.socket, socket.socket]) -> None:
    """After the swap the server reads end of file, also where the client has sent more."""
    client, server = pair
    client.send(b"GET /pipelined HTTP/1.1\r\n\r\n")
    connection, sink = swap(Client(server.fileno()))

    assert server.recv(100) == b""
    assert connection.recv(100).startswith(b"GET /pipelined")

    connection.close()
    sink.close()


def test_nothing_the_server_does_reaches_the_client(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """The server may shut down, block and close its descriptor: the client sees none of it."""
    client, server = pair
    connection, sink = swap(Client(server.fileno()))
    server.shutdown(socket.SHUT_RDWR)
    server.setblocking(True)  # noqa: FBT003  the name of the method says what is True
    server.close()
    connection.send(b"still here")

    assert client.recv(100) == b"still here"
    assert not os.get_blocking(connection.fileno())

    connection.close()
    sink.close()


def test_our_end_closes_the_connection(pair: tuple[socket.socket, socket.socket]) -> None:
    """After the swap nobody but us holds the client's connection: closing it ends it."""
    client, server = pair
    connection, sink = swap(Client(server.fileno()))
    connection.close()

    assert client.recv(100) == b""

    sink.close()


@pytest.mark.parametrize("blocking", [True, False])
def test_the_servers_end_blocks_as_before(
    pair: tuple[socket.socket, socket.socket], *, blocking: bool
) -> None:
    """The descriptor that the server goes on with blocks if the one it had did."""
    pair[1].setblocking(blocking)
    connection, sink = swap(Client(pair[1].fileno()))

    assert os.get_blocking(pair[1].fileno()) is blocking

    connection.close()
    sink.close()


def test_no_other_program_inherits_anything(pair: tuple[socket.socket, socket.socket]) -> None:
    """None of the descriptors of a swap is inherited by a program that is started."""
    connection, sink = swap(Client(pair[1].fileno()))

    assert not os.get_inheritable(connection.fileno())
    assert not os.get_inheritable(sink.fileno())
    assert not os.get_inheritable(pair[1].fileno())

    connection.close()
    sink.close()


@contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """Use up all descriptors of this process but `count`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.dup(0)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors(os.getpid()) + 9, hard))
    try:
        while True:
            try:
                taken.append(os.dup(0))
            except OSError:
                break
        for _ in range(count):
            os.close(taken.pop())
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for fd in taken:
            os.close(fd)


@pytest.mark.parametrize("left", [0, 1, 2])
def test_without_descriptors_nothing_changes(
    pair: tuple[socket.socket, socket.socket], left: int
) -> None:
    """A swap for which descriptors are lacking fails, and leaves the connection as it was."""
    client, server = pair
    before = descriptors(os.getpid())
    with descriptors_left(left), pytest.raises(OSError, match="Too many open files"):
        swap(Client(server.fileno()))

    server.sendall(b"as before")

    assert client.recv(100) == b"as before"
    assert descriptors(os.getpid()) == before


def test_a_swap_needs_three_descriptors(pair: tuple[socket.socket, socket.socket]) -> None:
    """With three descriptors left a swap succeeds; two of them stay in use."""
    with descriptors_left(3):
        connection, sink = swap(Client(pair[1].fileno()))
    connection.send(b"x")

    assert pair[0].recv(1) == b"x"

    connection.close()
    sink.close()


def test_a_server_is_told_to_leave_the_connection() -> None:
    """A response that can be told to close its connection is told so."""
    told: list[str] = []

    class Response:
        def start_response(self) -> None: ...

        def force_close(self) -> None:
            told.append("close")

    leave_connection(Response().start_response)

    assert told == ["close"]


@pytest.mark.parametrize("start_response", [print, lambda: None, [].append])
def test_other_servers_are_told_nothing(start_response: Callable[..., Any]) -> None:
    """A `start_response` that belongs to nothing known is left alone."""
    leave_connection(start_response)


# ---- chunks


class Answer:
    """What gunicorn's `start_response` belongs to."""

    def __init__(self, protocol: str) -> None:
        self.cfg = self
        self.protocol = protocol

    def start_response(self) -> None: ...


@pytest.mark.parametrize(
    ("protocol", "start_response", "may"),
    [
        ("HTTP/1.1", print, True),
        ("HTTP/1.1", lambda: None, True),
        ("HTTP/1.0", print, False),
        (None, print, False),
        ("HTTP/1.1", Answer("http").start_response, True),
        ("HTTP/1.1", Answer("uwsgi").start_response, False),
    ],
)
def test_who_understands_chunks(
    protocol: str | None, start_response: Callable[..., Any], *, may: bool
) -> None:
    """Chunks are for HTTP/1.1 requests to servers that speak HTTP."""
    assert may_chunk({"SERVER_PROTOCOL": protocol}, start_response) is may
