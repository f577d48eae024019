"""One visit to an address, as a browser makes it, with a clock in hand.

HTTP/1.1 over a socket, because what matters here is *when* bytes come, also after a wait that was
in vain; Python's own HTTP client can't be read on after a timeout. h11 reads what comes: whoever
answers may be anybody, and may mean harm. It blocks, for a bounded time, takes a bounded memory,
and belongs to the thread that uses it. Nothing here knows what an event is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType

import h11

from flask_eventstream.doctor.address import Address
from flask_eventstream.doctor.body import Body

__all__ = ["Visit"]

_READ_BYTES = 64 * 1024

#: Of a head, as Chromium and Firefox bound it.
_MAX_HEAD_BYTES = 256 * 1024


class Visit:
    """One request, and what comes back, as far as it has come. A context manager that leaves.

    Args:
        address: Where to ask.
        headers: Beside those that every visit has, or in their place.
        method: HEAD asks for the head alone.
        compressed: True to take gzip, as browsers do.
        within_s: Seconds to connect.

    Raises:
        OSError: No connection, as `Address.connect`.
        ValueError: The headers can't be sent.
    """

    def __init__(
        self,
        address: Address,
        headers: Mapping[str, str],
        *,
        method: str = "GET",
        compressed: bool = True,
        within_s: float,
    ) -> None:
        self.status: int | None = None
        """``None`` until the head is here."""
        self.version = ""
        """Of HTTP, as the server speaks it: ``1.1`` or ``1.0``."""
        self.headers: dict[str, str] = {}
        """Names in lower case; as they came, so perhaps with anything in them."""
        self.ended = ""
        """``finished`` where the response says that it is whole, ``closed`` where only the
        connection ended, ``cut`` where more was to come, ``broken`` where what came is not HTTP.
        Empty while it goes on."""
        self.broken = ""
        """What is not HTTP about it."""
        self.last_byte_s = time.monotonic()
        """When something of the body came last, or the request was sent."""
        self._body = Body()
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_BYTES)
        request = self._request(address, headers, method=method, compressed=compressed)
        self._connection = address.connect(["http/1.1"], within_s=within_s)
        try:
            self._connection.settimeout(within_s)
            self._connection.sendall(request)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Visit:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave, as a closed tab does. Safe to repeat."""
        self._connection.close()

    @property
    def garbled(self) -> bool:
        """True where the body is not compressed as the head says."""
        return self._body.garbled

    def wait_head(self, *, within_s: float) -> bool:
        """Read until the head is here; False where it did not come before the end, or in time."""
        return self._wait(lambda: self.status is not None, within_s=within_s)

    def wait_for(self, text: bytes, *, within_s: float) -> bool:
        """Read until ``text`` comes in the body, after what was waited for before.

        Line ends at its end count as the beginning of what comes next.
        """
        self._body.want(text)
        return self._wait(lambda: self._body.found, within_s=within_s)

    def read_line(self, *, within_s: float) -> str | None:
        """The rest of the line, up to 256 characters of its end; ``None`` where it did not end."""
        found = self.wait_for(b"\n", within_s=within_s)
        return self._body.before.decode("latin-1") if found else None

    def _wait(self, condition: Callable[[], bool], *, within_s: float) -> bool:
        deadline_s = time.monotonic() + within_s
        while not condition():
            left_s = deadline_s - time.monotonic()
            if self.ended or left_s <= 0 or not self._read(left_s):
                return condition()
        return True

    # ---- HTTP

    def _request(
        self, address: Address, headers: Mapping[str, str], *, method: str, compressed: bool
    ) -> bytes:
        sent = {
            "host": address.authority,
            "accept": "text/event-stream",
            "accept-encoding": "gzip" if compressed else "identity",
            "cache-control": "no-cache",
            "user-agent": "flask-sse-doctor",
            **{name.lower(): value for name, value in headers.items()},
        }
        lines = [(name.encode(), value.encode()) for name, value in sent.items()]
        try:
            request = h11.Request(method=method, target=address.target, headers=lines)
            return (self._http.send(request) or b"") + (self._http.send(h11.EndOfMessage()) or b"")
        except h11.LocalProtocolError as error:
            raise ValueError(f"that can't be asked for: {error}") from error

    def _read(self, within_s: float) -> bool:
        """Take what comes next; False where nothing did in time."""
        self._connection.settimeout(within_s)
        try:
            data = self._connection.recv(_READ_BYTES)
        except TimeoutError:
            return False
        except OSError:  # a reset, or TLS that was cut
            self.ended = "cut"
            return True
        try:
            self._http.receive_data(data)
            self._take_events(at_end=not data)
        except h11.RemoteProtocolError as error:
            self.ended, self.broken = ("broken", str(error)) if data else ("cut", "")
        return True

    def _take_events(self, *, at_end: bool) -> None:
        while not self.ended:
            event = self._http.next_event()
            if isinstance(event, h11.Response):
                self._take_head(event)
            elif isinstance(event, h11.Data):
                if self._body.take(bytes(event.data)):
                    self.last_byte_s = time.monotonic()
            elif isinstance(event, h11.EndOfMessage):
                self.ended = "closed" if at_end else "finished"
            elif not isinstance(event, h11.InformationalResponse):  # Early Hints, and the like
                return

    def _take_head(self, head: h11.Response) -> None:
        self.version = head.http_version.decode()
        for name, value in head.headers:
            before = self.headers.get(name.decode())
            said = value.decode("latin-1")
            self.headers[name.decode()] = said if before is None else f"{before}, {said}"
        self._body.begin(self.headers.get("content-encoding", "").lower())
        self.status = head.status_code
