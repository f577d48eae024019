"""A WSGI server made by hand: one request per call, on the test's own thread.

It does what a server does and no more: it calls the application, writes a head and the body to
the descriptor of its connection, and closes it. Whether the application took the connection away
meanwhile it neither knows nor asks.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from werkzeug.test import create_environ

from .event_stream import Dispatched, EventStreamParser
from .http_response import HttpResponse
from .leaving import Leaves
from .waiting import Deadline

__all__ = ["HandServer", "Page"]

READ_BYTES = 65_536
SHOWN_BYTES = 300

Application = Callable[[dict[str, Any], Any], Iterable[bytes]]


class Page(Leaves):
    """The client's side of one request. A context manager that leaves."""

    def __init__(self, sock: socket.socket) -> None:
        self.response = HttpResponse()
        self.parser = EventStreamParser()
        self.events: list[Dispatched] = []
        self.body = b""
        self.ended = False
        self._socket = sock

    @property
    def headers(self) -> dict[str, str]:
        """The response's headers, names in lower case; waits for them."""
        self.until(lambda: self.response.head, "the response head")
        return self.response.headers

    @property
    def data(self) -> list[str]:
        """The data of the application's own events so far."""
        return [e["data"] for e in self.events if not e["type"].startswith("stream-")]

    def read(self, within_s: float) -> None:
        """Wait for some bytes, or the end."""
        self._socket.settimeout(within_s)
        try:
            received = self._socket.recv(READ_BYTES)
        except TimeoutError:
            return
        except ConnectionError:
            received = b""
        if received:
            body = self.response.feed(received)
            self.body += body
            self.events += self.parser.feed(body)
        else:
            self.ended = True

    def until(self, condition: Callable[[], object], what: str, within_s: float = 10) -> None:
        """Read until the condition holds."""
        deadline = Deadline(within_s)
        while not condition():
            if deadline.passed or self.ended:
                end = "the connection ended before" if self.ended else f"waited {within_s:g} s for"
                shown = self.response.head + self.body[-SHOWN_BYTES:]
                raise AssertionError(f"{end} {what}; got so far {shown!r}")
            self.read(max(deadline.left_s, 0.001))

    def opened(self) -> Page:
        """Wait for the first byte of the stream."""
        self.until(lambda: self.parser.comments, "the first byte")
        return self

    def got(self, *data: str) -> None:
        """Wait until so many events are there; they must be these, and no other."""
        self.until(lambda: len(self.data) >= len(data), f"the events {data}")
        assert self.data == list(data)

    def end(self) -> None:
        """Wait for the end of the connection."""
        deadline = Deadline(10)
        while not self.ended:
            if deadline.passed:
                raise AssertionError(f"no end; got so far {self.body[-SHOWN_BYTES:]!r}")
            self.read(max(deadline.left_s, 0.001))

    def close(self) -> None:
        """Leave. Safe to repeat."""
        self._socket.close()


class HandServer:
    """Serves one application.

    Args:
        app: the application.
        tcp: TCP on the loopback instead of a socket pair.
        environ: on top of what the server says itself; None takes a key away.
    """

    SOFTWARE = "hand-made/1.0"

    def __init__(self, app: Application, *, tcp: bool = False, **environ: Any) -> None:
        self._app = app
        self._tcp = tcp
        self._environ = environ
        self.connection: socket.socket | None = None
        """The server's end of the last request, closed by now."""
        self.start_response: Callable[..., Any] | None = None
        """What an application gets instead of the server's own, where a test says so."""

    def request(
        self,
        path: str = "/stream",
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
    ) -> Page:
        """Serve one request, and give the client's side of it."""
        client, server = self._connection()
        page = Page(client)
        try:
            self._serve(server, path, method, headers or {})
        except BaseException:
            page.close()
            raise
        finally:
            server.close()
        return page

    def _connection(self) -> tuple[socket.socket, socket.socket]:
        if not self._tcp:
            return socket.socketpair()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            client = socket.create_connection(listening.getsockname())
            server, _ = listening.accept()
        return client, server

    def _serve(
        self, server: socket.socket, path: str, method: str, headers: Mapping[str, str]
    ) -> None:
        said = {
            "SERVER_SOFTWARE": self.SOFTWARE,
            "SERVER_PROTOCOL": "HTTP/1.1",
            "werkzeug.socket": server,
            "wsgi.multithread": True,
            **self._environ,
        }
        environ = create_environ(path, method=method, headers=dict(headers))
        environ.update({key: value for key, value in said.items() if value is not None})
        head: list[bytes] = []

        def start_response(
            status: str, given: list[tuple[str, str]], _exc_info: object = None
        ) -> Callable[[bytes], object]:
            assert not head, "start_response was called twice"
            lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in given)]
            head.append("\r\n".join([*lines, "Connection: keep-alive", "", ""]).encode("latin-1"))
            return server.sendall

        with _closing(self._app(environ, self.start_response or start_response)) as body:
            server.sendall(head[0])
            for chunk in body:
                server.sendall(chunk)


@contextmanager
def _closing(body: Iterable[bytes]) -> Iterator[Iterable[bytes]]:
    try:
        yield body
    finally:
        close = getattr(body, "close", None)
        if close is not None:
            close()
