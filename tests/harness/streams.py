"""Clients of event streams on plain sockets: one request, one stream, thousands of streams.

No HTTP library stands between a test and the bytes, so a test sees what arrived, when, and how the
connection ended. Everything has a deadline.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import selectors
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from .event_stream import Dispatched, EventStreamParser
from .http_response import HttpResponse
from .leaving import Leaves
from .waiting import Deadline

__all__ = ["Crowd", "Reader", "Reply", "allow_descriptors", "get", "post"]

READ_BYTES = 65_536
OK = 200
MOST_READS_AT_ONCE = 200
# How much of what arrived a failure shows.
SHOWN_BYTES = 300


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole response. Header names are in lower case, repeated ones joined with ", "."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """The body as UTF-8."""
        return self.body.decode()


class _Address(NamedTuple):
    host: str
    port: int
    target: str

    @classmethod
    def of(cls, url: str) -> _Address:
        parts = urlsplit(url)
        if parts.scheme != "http" or parts.hostname is None:
            raise ValueError(f"not an address that this client can read: {url!r}")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.hostname, parts.port or 80, target)

    def request(self, headers: Mapping[str, str], content: bytes | None = None) -> bytes:
        """The bytes of a GET, or of a POST where there is content, be it empty."""
        given = {name.lower(): value for name, value in headers.items()}
        merged = {"host": f"{self.host}:{self.port}", "accept": "*/*", **given}
        if content is not None:
            merged["content-length"] = str(len(content))
        method = "GET" if content is None else "POST"
        lines = [f"{method} {self.target} HTTP/1.1", *(f"{k}: {v}" for k, v in merged.items())]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (content or b"")


class _Connection:
    """One request on a blocking socket, and what has come back. Owned by the calling thread."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        timeout_s: float,
        content: bytes | None = None,
        source: str = "",
    ) -> None:
        address = _Address.of(url)
        deadline = Deadline(timeout_s)
        self.response = HttpResponse()
        self.body = bytearray()
        self.ended = False
        self._url = url
        self._socket = socket.create_connection(
            (address.host, address.port), timeout=timeout_s, source_address=(source, 0)
        )
        try:
            self._socket.sendall(address.request(headers, content))
            while not self.response.head:
                self.receive(deadline, what="the response head")
                if self.ended and not self.response.head:
                    raise AssertionError(f"{url}: the connection ended before the response head")
        except BaseException:
            self._socket.close()
            raise

    def receive(self, deadline: Deadline, *, what: str) -> bytes:
        """Wait for the next bytes and give those of the body; none if the response ended.

        A deadline that has passed fails even if bytes are there: a stream that never falls
        silent must not hold a test for ever.
        """
        received = None if deadline.passed else self._receive_within(deadline.left_s)
        if received is None:
            shown = bytes(self.body[-SHOWN_BYTES:])
            message = (
                f"{self._url}: waited {deadline.within_s:g} s for {what}; got so far: {shown!r}"
            )
            raise AssertionError(message)
        return received

    def receive_available(self) -> bytes:
        """Take what has already arrived, without waiting."""
        taken: list[bytes] = []
        # The bound keeps a server that writes faster than this reads from holding it for ever.
        while not self.ended and len(taken) < MOST_READS_AT_ONCE:
            received = self._receive_within(0)
            if received is None:
                break
            taken.append(received)
        return b"".join(taken)

    def _receive_within(self, seconds: float) -> bytes | None:
        # Zero means non-blocking.
        self._socket.settimeout(seconds)
        try:
            received = self._socket.recv(READ_BYTES)
        except (TimeoutError, BlockingIOError):
            return None
        except ConnectionError:
            received = b""
        if not received:
            self.response.feed_eof()
            self.ended = True
            return b""
        body = self.response.feed(received)
        self.body += body
        self.ended = self.response.complete
        return body

    def close(self) -> None:
        self.ended = True
        self._socket.close()


def get(url: str, headers: Mapping[str, str] | None = None, timeout_s: float = 10) -> Reply:
    """Make one plain GET request and read the whole response.

    Raises:
        AssertionError: the response was not complete after `timeout_s` seconds, or was cut off.
        OSError: no connection could be made.
    """
    return _ask(url, headers, timeout_s, content=None)


def post(
    url: str,
    content: bytes = b"",
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 10,
) -> Reply:
    """Make one POST request and read the whole response, as `get` does."""
    return _ask(url, headers, timeout_s, content=content)


def _ask(
    url: str, headers: Mapping[str, str] | None, timeout_s: float, *, content: bytes | None
) -> Reply:
    deadline = Deadline(timeout_s)
    sent = {"connection": "close", **(headers or {})}
    connection = _Connection(url, sent, timeout_s, content)
    with contextlib.closing(connection):
        while not (connection.ended or connection.response.complete):
            connection.receive(deadline, what="the whole response")
        response = connection.response
        if not response.complete:
            raise AssertionError(
                f"{url}: the response was cut off after {len(connection.body)} bytes"
            )
        return Reply(response.status, response.headers, bytes(connection.body))


class Reader(Leaves):
    """One stream, read by the thread that owns it. A context manager that closes it.

    The response head has been read when the constructor returns, whatever its status. `source` is
    the address to come from: all of 127.0.0.0/8 are this machine.

    Attributes:
        status: the status code.
        headers: names in lower case, repeated ones joined with ", ".
        head: the bytes of status line and headers, with the blank line.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 10,
        source: str = "",
    ) -> None:
        asked = {"accept": "text/event-stream", "cache-control": "no-store", **(headers or {})}
        self._connection = _Connection(url, asked, timeout_s, source=source)
        self._parser = EventStreamParser()
        self._events: deque[Dispatched] = deque()
        response = self._connection.response
        self.status = response.status
        self.headers = response.headers
        self.head = response.head
        self._take(bytes(self._connection.body))

    @property
    def raw(self) -> bytes:
        """The bytes of the body that have arrived by now, without chunk framing."""
        self._take(self._connection.receive_available())
        return bytes(self._connection.body)

    @property
    def comments(self) -> int:
        """How many comment lines have arrived by now. Heartbeats are comments."""
        self._take(self._connection.receive_available())
        return self._parser.comments

    @property
    def last_event_id(self) -> str:
        """What a browser would send as Last-Event-ID if the stream broke now."""
        self._take(self._connection.receive_available())
        return self._parser.last_event_id

    @property
    def retry(self) -> int | None:
        """The reconnection time that the stream has set by now, in milliseconds."""
        self._take(self._connection.receive_available())
        return self._parser.retry

    @property
    def complete(self) -> bool:
        """Whether the response ended as announced; False while it is open or if it was cut off."""
        return self._connection.response.complete

    @property
    def ended(self) -> bool:
        """Whether the stream has ended by now, in whatever way."""
        self._take(self._connection.receive_available())
        return self._connection.ended

    def take_events(self) -> list[Dispatched]:
        """Give the events that have arrived by now and were not given yet, without waiting."""
        self._take(self._connection.receive_available())
        taken = list(self._events)
        self._events.clear()
        return taken

    def next_event(self, within_s: float = 10) -> Dispatched:
        """Give the next event, with type, data, id and retry as `Dispatched` explains them.

        Raises:
            AssertionError: none came in time, or the stream ended before.
        """
        deadline = Deadline(within_s)
        self._take(self._connection.receive_available())
        while not self._events:
            if self._connection.ended:
                shown = bytes(self._connection.body[-SHOWN_BYTES:])
                raise AssertionError(
                    f"the stream ended before the next event; its last bytes: {shown!r}"
                )
            self._take(self._connection.receive(deadline, what="the next event"))
        return self._events.popleft()

    def wait_end(self, within_s: float = 10) -> None:
        """Wait until the server has ended the stream, in whatever way; see `complete` for which.

        Events that come before the end are kept for `next_event`.

        Raises:
            AssertionError: it is still open after `within_s` seconds.
        """
        deadline = Deadline(within_s)
        self._take(self._connection.receive_available())
        while not self._connection.ended:
            self._take(self._connection.receive(deadline, what="the end of the stream"))

    def close(self) -> None:
        """Leave, as a closed tab does. Safe to repeat."""
        self._connection.close()

    def _take(self, body: bytes) -> None:
        self._events.extend(self._parser.feed(body))


def allow_descriptors(count: int) -> None:
    """Raise this process's limit of open files so that `count` more sockets fit.

    Processes that are started afterwards inherit the limit.

    Raises:
        AssertionError: the hard limit is lower; only an administrator can raise it.
    """
    # Beside the sockets there are files, pipes and the interpreter's own descriptors.
    needed = count + 500
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < needed:
        if hard != resource.RLIM_INFINITY and hard < needed:
            raise AssertionError(
                f"{needed} open files are needed and the limit is {hard}: see `ulimit -Hn`"
            )
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


class _Member:
    """One stream of a crowd. Only the crowd's thread changes it."""

    __slots__ = ("data", "ended", "opened", "parser", "request", "response", "socket")

    def __init__(self, request: bytes) -> None:
        self.socket: socket.socket | None = None
        self.request = request
        self.response = HttpResponse()
        self.parser = EventStreamParser()
        self.data: list[str] = []
        self.opened = False
        self.ended = False


# Fewer than the shortest listen queue among the servers under test (Werkzeug's, 128): a
# connection that overflows it is lost for a second.
OPENING_AT_ONCE = 64
CLOSE_WITHIN_S = 30.0


class Crowd(Leaves):
    """Thousands of streams of one address, read by one thread. A context manager that closes them.

    The thread owns sockets and parsers. The test's thread reads counters and waits; both go
    through one condition, which is never held while a socket is read.
    """

    def __init__(
        self,
        url: str,
        count: int,
        headers: Mapping[str, str] | None = None,
        *,
        at_once: int = OPENING_AT_ONCE,
    ) -> None:
        allow_descriptors(count)
        address = _Address.of(url)
        request = address.request({"accept": "text/event-stream", **(headers or {})})
        self._address = (address.host, address.port)
        self._members = [_Member(request) for _ in range(count)]
        self._waiting = deque(self._members)
        self._opening = 0
        self._at_once = at_once
        self._changed = threading.Condition()
        self._opened = 0
        self._ended = 0
        self._refused: Counter[str] = Counter()
        # How many streams have had at least n events, for each n.
        self._reached: Counter[int] = Counter()
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = socket.socketpair()
        self._selector.register(self._wake_read, selectors.EVENT_READ, None)
        self._thread = threading.Thread(target=self._run, name="crowd", daemon=True)
        self._closed = False
        self._thread.start()

    @classmethod
    def open(cls, url: str, count: int, headers: Mapping[str, str] | None = None) -> Crowd:
        """Start to open `count` streams, a few at a time; does not wait for them."""
        return cls(url, count, headers)

    @property
    def opened(self) -> int:
        """Streams whose response head has arrived with status 200, also if they ended since."""
        return self._opened

    @property
    def ended(self) -> int:
        """Opened streams that the server has ended, in whatever way."""
        return self._ended

    @property
    def refused(self) -> dict[str, int]:
        """Streams that never opened, counted by status code or by the error's text."""
        with self._changed:
            return dict(self._refused)

    def data_of(self, index: int) -> list[str]:
        """The data of each event that one stream has got, in order, whatever the event's type."""
        return list(self._members[index].data)

    def wait_opened(self, count: int, within_s: float) -> None:
        """Wait until `count` streams are open.

        Raises:
            AssertionError: not in time, or so many were refused that it cannot happen.
        """
        possible = len(self._members) - count

        def done() -> bool:
            if sum(self._refused.values()) > possible:
                raise AssertionError(f"{count} open streams cannot be had: {self._report()}")
            return self._opened >= count

        self._wait(done, within_s, what=f"{count} open streams")

    def wait_events(self, n_per_stream: int, within_s: float) -> None:
        """Wait until every stream has had at least `n_per_stream` events.

        Raises:
            AssertionError: not in time.
        """
        total = len(self._members)
        self._wait(
            lambda: self._reached[n_per_stream] >= total,
            within_s,
            what=f"{n_per_stream} events on each of {total} streams",
        )

    def wait_ended(self, count: int, within_s: float) -> None:
        """Wait until the server has ended `count` of the opened streams.

        Raises:
            AssertionError: not in time.
        """
        self._wait(lambda: self._ended >= count, within_s, what=f"the end of {count} streams")

    def close(self) -> None:
        """Leave as `close_all` does."""
        self.close_all()

    def close_all(self) -> None:
        """Leave with every stream and end the thread. Safe to repeat; counters and data stay."""
        if self._closed:
            return
        self._closed = True
        self._wake_write.send(b"x")
        self._thread.join(CLOSE_WITHIN_S)
        if self._thread.is_alive():
            raise AssertionError(f"the crowd's thread did not end within {CLOSE_WITHIN_S:g} s")
        self._wake_write.close()

    def _wait(self, done: Callable[[], bool], within_s: float, *, what: str) -> None:
        with self._changed:
            if not self._changed.wait_for(done, timeout=within_s):
                raise AssertionError(f"waited {within_s:g} s for {what}: {self._report()}")

    def _report(self) -> str:
        most = max(self._reached, default=0)
        return (
            f"{self._opened} of {len(self._members)} opened, {self._ended} ended, "
            f"refused {dict(self._refused)}, most events on one stream {most}"
        )

    # From here on: the crowd's own thread.

    def _run(self) -> None:
        try:
            while not self._closed:
                self._open_more()
                for key, _ in self._selector.select(self._patience_s()):
                    if isinstance(key.data, _Member):
                        self._ready(key.data)
        finally:
            for member in self._members:
                if member.socket is not None:
                    member.socket.close()
            self._selector.close()
            self._wake_read.close()

    def _patience_s(self) -> float | None:
        """How long to wait for the network; a crowd that comes back has other things to do."""
        return None

    def _open_more(self) -> None:
        while self._waiting and self._opening < self._at_once:
            member = self._waiting.popleft()
            member.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            member.socket.settimeout(0)
            self._opening += 1
            code = member.socket.connect_ex(self._address)
            if code not in {0, errno.EINPROGRESS}:
                self._lose(member, why=os.strerror(code))
                continue
            self._selector.register(member.socket, selectors.EVENT_WRITE, member)

    def _ready(self, member: _Member) -> None:
        assert member.socket is not None
        try:
            if member.request:
                self._send(member, member.socket)
            else:
                self._receive(member, member.socket)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(member, why=error.strerror or str(error))

    def _send(self, member: _Member, sock: socket.socket) -> None:
        member.request = member.request[sock.send(member.request) :]
        if not member.request:
            self._selector.modify(sock, selectors.EVENT_READ, member)

    def _receive(self, member: _Member, sock: socket.socket) -> None:
        received = sock.recv(READ_BYTES)
        body = member.response.feed(received)
        events = member.parser.feed(body) if member.opened or member.response.status == OK else []
        with self._changed:
            if member.response.status == OK and not member.opened:
                member.opened = True
                self._opening -= 1
                self._opened += 1
            for event in events:
                member.data.append(event["data"])
                self._reached[len(member.data)] += 1
            self._changed.notify_all()
        status = member.response.status
        if not received or member.response.complete or status not in {0, OK}:
            self._lose(member, why=f"status {status}" if status else "closed without a response")

    def _lose(self, member: _Member, *, why: str) -> None:
        assert member.socket is not None
        with contextlib.suppress(KeyError):
            self._selector.unregister(member.socket)
        member.socket.close()
        with self._changed:
            member.ended = True
            if member.opened:
                self._ended += 1
            else:
                self._opening -= 1
                self._refused[why] += 1
            self._changed.notify_all()
