"""One HTTP/2 connection with many streams, on a plain socket, with the framing of `h2`."""

from __future__ import annotations

import socket
from collections import defaultdict
from collections.abc import Callable
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events

from harness.leaving import Leaves
from harness.waiting import Deadline

__all__ = ["Http2"]

READ_BYTES = 65_536
# The connection's own window never holds a stream back here, only the stream's does.
CONNECTION_WINDOW = 2**30


class Http2(Leaves):
    """A connection without TLS (RFC 9113, section 3.3). Belongs to the test's thread.

    Attributes:
        bodies: what arrived on each stream.
        statuses: the status of each stream whose head arrived.
        ended: streams that the server ended or reset.
        unread: streams whose window is not opened again when data arrives.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.bodies: defaultdict[int, bytes] = defaultdict(bytes)
        self.statuses: dict[int, int] = {}
        self.ended: set[int] = set()
        self.unread: set[int] = set()
        self._taken: defaultdict[int, int] = defaultdict(int)
        self._authority = parts.netloc
        self._h2 = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding="utf-8")
        )
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout=10)
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(CONNECTION_WINDOW)
        self._flush()

    def open(self, target: str) -> int:
        """Ask for a path and query; gives the number of the stream."""
        number: int = self._h2.get_next_available_stream_id()
        head = [(":method", "GET"), (":scheme", "http"), (":path", target)]
        self._h2.send_headers(number, [*head, (":authority", self._authority)], end_stream=True)
        self._flush()
        return number

    def leave(self, number: int) -> None:
        """Reset one stream, as a closed tab does."""
        self._h2.reset_stream(number)
        self._flush()

    def read_on(self, number: int) -> None:
        """Read a stream again that was `unread`."""
        self.unread.discard(number)
        if number not in self.ended:
            self._acknowledge(number)
            self._flush()

    def close(self) -> None:
        """Close the connection with all its streams."""
        self._socket.close()

    def until(self, condition: Callable[[], object], what: str, within_s: float = 10) -> None:
        """Read until the condition holds.

        Raises:
            AssertionError: it does not, in time.
        """
        deadline = Deadline(within_s)
        while not condition():
            if deadline.passed:
                raise AssertionError(f"waited {within_s:g} s for {what}")
            self._socket.settimeout(max(deadline.left_s, 0.001))
            try:
                received = self._socket.recv(READ_BYTES)
            except TimeoutError:
                continue
            if not received:
                raise AssertionError(f"the connection ended before {what}")
            for event in self._h2.receive_data(received):
                self._take(event)
            self._flush()

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ResponseReceived):
            self.statuses[event.stream_id] = int(dict(event.headers)[":status"])
        elif isinstance(event, h2.events.DataReceived):
            self.bodies[event.stream_id] += event.data
            self._taken[event.stream_id] += event.flow_controlled_length
            self._acknowledge(event.stream_id)
        elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
            self.ended.add(event.stream_id)

    def _acknowledge(self, number: int) -> None:
        if number not in self.unread and self._taken[number]:
            self._h2.acknowledge_received_data(self._taken.pop(number), number)

    def _flush(self) -> None:
        self._socket.settimeout(10)
        self._socket.sendall(self._h2.data_to_send())
