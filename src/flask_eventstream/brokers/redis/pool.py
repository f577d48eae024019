"""Connections to one server, for threads, with one deadline over all that a caller does.

redis-py connects and speaks the protocol. Its pools, retries and clients are not used here: each
of their steps has the whole patience of a caller, so that they add up to several times of it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import Any

import redis

__all__ = ["Pool", "left_s"]


def left_s(until_s: float) -> float:
    """The seconds until a moment of `time.monotonic`.

    Raises:
        redis.exceptions.TimeoutError: It is over.
    """
    left = until_s - time.monotonic()
    if left <= 0:
        raise redis.exceptions.TimeoutError("it did not answer in time")
    return left


#: Errors that a server answered. The connection goes on after them.
_ANSWERS = (
    redis.exceptions.ResponseError,
    redis.exceptions.BusyLoadingError,
    redis.exceptions.AuthenticationError,
)


class _TimedSocket:
    """A connection's socket, as redis-py sees it: whatever waits for it does so until a deadline.

    Without it each piece that trickles in would have the whole patience again.
    """

    __slots__ = ("_asked_s", "_socket", "until_s")

    def __init__(self, socket: Any, until_s: float) -> None:
        self._socket = socket
        self._asked_s: float | None = None
        self.until_s = until_s

    def settimeout(self, seconds: float | None) -> None:
        self._asked_s = seconds

    def recv_into(self, *arguments: Any) -> int:
        return int(self._limited().recv_into(*arguments))

    def recv(self, *arguments: Any) -> bytes:
        return bytes(self._limited().recv(*arguments))

    def sendall(self, *arguments: Any) -> None:
        self._limited().sendall(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def _limited(self) -> Any:
        left = left_s(self.until_s)
        self._socket.settimeout(left if self._asked_s is None else min(left, self._asked_s))
        return self._socket


class Pool:
    """Makes connections when they are needed, and keeps them. Any thread; not beyond a fork.

    Args:
        client: redis-py's, which knows how to connect.
    """

    def __init__(self, client: Any) -> None:
        self._make = client.connection_pool.make_connection
        self._idle: deque[Any] = deque()

    def take(self, until_s: float) -> Any:
        """A connection that works as far as one can see. Nothing of the caller's is sent.

        Raises:
            redis.RedisError, OSError: None can be had, or not in time.
        """
        while self._idle:
            try:
                connection = self._idle.pop()
            except IndexError:
                break  # another thread was faster
            _limit(connection, until_s)
            if _is_quiet(connection):
                return connection
            connection.disconnect()
        return self._connected(until_s)

    def give_back(self, connection: Any) -> None:
        """Keep a connection that has no answer under way."""
        self._idle.append(connection)

    def clear(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            try:
                self._idle.pop().disconnect()
            except IndexError:
                break

    @staticmethod
    def exchange(connection: Any, commands: Sequence[Sequence[Any]], until_s: float) -> list[Any]:
        """Send commands in one piece, and give their answers; an error is one, too.

        Raises:
            redis.RedisError, OSError: Not all were answered, or not in time. The connection is
                closed, and some of the commands may have been executed.
        """
        answers: list[Any] = []
        try:
            _limit(connection, until_s)
            connection.send_packed_command(connection.pack_commands(commands))
            for _ in commands:
                try:
                    answers.append(connection.read_response())
                except _ANSWERS as error:
                    answers.append(error)
        except BaseException:
            connection.disconnect()
            raise
        return answers

    def _connected(self, until_s: float) -> Any:
        def greet(connection: Any) -> None:
            # What comes now (a password, a name, a database) has answers, too.
            connection.socket_timeout = None
            connection._sock = _TimedSocket(connection._sock, until_s)  # noqa: SLF001
            connection.on_connect()

        connection = self._make()
        connection.socket_connect_timeout = connection.socket_timeout = left_s(until_s)
        connection.redis_connect_func = greet
        try:
            connection.connect()
        except BaseException:
            connection.disconnect()
            raise
        return connection


def _limit(connection: Any, until_s: float) -> None:
    # redis-py has no public way to shorten a time-out once it is connected.
    if connection._sock is not None:  # noqa: SLF001
        connection._sock.until_s = until_s  # noqa: SLF001


def _is_quiet(connection: Any) -> bool:
    """False where the server closed it, or it has an answer that nobody took."""
    try:
        return not connection.can_read(timeout=0)
    except (redis.RedisError, OSError):
        return False
