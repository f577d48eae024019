"""Swapping a client's connection, on real sockets."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from flask_eventstream.servers.wsgi.known import Client
from flask_eventstream.servers.wsgi.swap import swap, swap_back
from harness.process import descriptors


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The client's end of a connection, and the server's."""
    client, server = socket.socketpair()
    client.settimeout(10)
    with client, server:
        yield client, server


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


@pytest.mark.parametrize("blocking", [True, False])
def test_a_swap_can_be_undone(pair: tuple[socket.socket, socket.socket], *, blocking: bool) -> None:
    """A server that gets its connection back has it as it was, and no descriptor stays."""
    client, server = pair
    server.setblocking(blocking)
    before = descriptors(os.getpid())
    connection, sink = swap(Client(server.fileno()))
    swap_back(Client(server.fileno()), connection)
    sink.close()
    server.sendall(b"as before")

    assert client.recv(100) == b"as before"
    assert os.get_blocking(server.fileno()) is blocking
    assert descriptors(os.getpid()) == before
