"""The doctor's eyes: looks at the application, and at its stream through the address of users.

It changes nothing but the log of events: a probe and a ticket on channels of its own, and a large
event where nothing arrives, to see whether some buffer overflows. It blocks, for a bounded time.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import os
import secrets
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from flask_eventstream.access.ticket import HEADER, make_own_channel, make_ticket, sign_ticket
from flask_eventstream.brokers import Broker, HasLimits
from flask_eventstream.config import Config
from flask_eventstream.doctor.address import Address, offers_http2
from flask_eventstream.doctor.facts import LONGEST_HEARTBEAT_S, AppFacts, StreamFacts
from flask_eventstream.doctor.told import read_told
from flask_eventstream.doctor.visit import Visit
from flask_eventstream.errors import BrokerUnavailable, EventStreamError
from flask_eventstream.publisher import Publisher

__all__ = ["Probe"]

#: The type of our events, so that no page's ``onmessage`` hears them where the channel is its own.
_TYPE = "sse-doctor"

#: Seconds, and the part of a heartbeat's interval, by which one may be late.
_MARGIN_S = 2.0
_MARGIN = 1.25

#: Overflows the buffers of proxies: nginx has 8 of 8 KiB for each response.
_FLOOD_BYTES = 256 * 1024

_OK = 200

#: Requests that are likely to meet each of a few processes.
_MEETINGS = 8

#: The first line of a stream, and each heartbeat.
_COMMENT_LINE = b"\n:\n"

#: How servers of Python call themselves; another name is that of a proxy.
_PYTHON_SERVERS = (
    *("gunicorn", "werkzeug", "waitress", "cheroot", "uvicorn", "hypercorn", "granian"),
    *("gevent", "uwsgi", "wsgiserver", "python", "basehttp", "simplehttp"),
)


class Probe:
    """One run of the doctor. Belongs to the thread that uses it.

    Args:
        config: The application's.
        broker: The application's.
        publisher: On that broker.
        app: What a server is told to serve, such as ``shop:app``.
        path: Where the application has its stream.
        key: The application's ``SECRET_KEY``, if it has one.
        channel: One that the reader may read; by default one of the doctor's own.
    """

    def __init__(
        self,
        config: Config,
        broker: Broker,
        publisher: Publisher,
        *,
        app: str,
        path: str,
        key: str | bytes | None,
        channel: str | None,
    ) -> None:
        self._broker = broker
        self._publisher = publisher
        self._key = key
        self._ticket = make_ticket(time.time())
        self._own = channel is None
        self._channel = channel or make_own_channel()
        self.app = AppFacts(
            broker=broker.url,
            app=app,
            path=path,
            heartbeat_s=config.heartbeat_s,
            lifetime_s=config.stream_lifetime_s,
            max_event_bytes=config.max_event_bytes,
        )

    patience_s = 5.0
    """Seconds that anything may take but a heartbeat and an answer. Events take milliseconds; on a
    busy machine the first stream of a process takes a second or two."""

    answer_s = 10.0
    """Seconds for an answer: a view that is busy may take long, and answers all the same."""

    # ---- the application

    def look_at_app(self) -> AppFacts:
        """See whether the broker takes events, and what its server says."""
        self.app.lacks_uvloop = _lacks_uvloop()
        try:
            if self._own:  # to publish would open a channel that was ended
                self._publish("hello")
                self.app.takes_events = True
            broker = self._broker
            self.app.redis = broker.limits() if isinstance(broker, HasLimits) else None
        except BrokerUnavailable as error:
            self.app.trouble = error.why, error.remedy
        return self.app

    # ---- the stream

    def look_at_stream(
        self, url: str, headers: Mapping[str, str], tell: Callable[[str], object]
    ) -> StreamFacts:
        """Visit the stream, and stay until a heartbeat was due.

        Args:
            url: The address that users use; of the stream, or of the site.
            headers: For the request: a cookie, perhaps.
            tell: Called with a line of text before a long wait.

        Raises:
            ValueError: The URL or a header is none.
        """
        seen = self._begin(url, has_headers=bool(headers))
        address = Address.parse(seen.url)
        with self._admitted() as admission:
            try:
                self._visit(address, {**headers, HEADER: admission}, seen, tell)
            except OSError as error:
                seen.failure = _failure(error)
        return seen

    def _begin(self, url: str, *, has_headers: bool) -> StreamFacts:
        """Facts with what is known before anybody is asked."""
        address = Address.parse(self._stream_url(url))
        parts = urlsplit(address.url)
        return StreamFacts(
            url=address.url,
            asked=url,
            host=address.host,
            port=address.port,
            should_be=urlunsplit(parts._replace(path=self.app.path, query="")),
            channel=self._channel,
            waited_s=self.patience_s,
            is_tls=address.is_tls,
            is_own_channel=self._own,
            has_headers=has_headers,
        )

    def _stream_url(self, url: str) -> str:
        """The whole address: where ``url`` is only that of the site, the stream's path is added."""
        parts = urlsplit(url)
        given = parse_qsl(parts.query, keep_blank_values=True)
        query = [(name, value) for name, value in given if name != "channel"]
        path = self.app.path if parts.path in ("", "/") else parts.path
        whole = urlencode([*query, ("channel", self._channel)])
        return urlunsplit(parts._replace(path=path, query=whole, fragment=""))

    @contextlib.contextmanager
    def _admitted(self) -> Iterator[str]:
        """A ticket that is good for as long as the block."""
        if self._can_probe:
            # A user of Redis may be confined to some channels; a signature may do.
            with contextlib.suppress(EventStreamError):
                self._publisher.end(self._ticket)
        try:
            yield sign_ticket(self._ticket, self._key)
        finally:
            if self._can_probe:
                with contextlib.suppress(EventStreamError):
                    self._publisher.publish("", _TYPE, channel=self._ticket)  # not ended any more

    @property
    def _can_probe(self) -> bool:
        return not self.app.is_memory and self.app.trouble is None

    def _visit(
        self,
        address: Address,
        headers: Mapping[str, str],
        seen: StreamFacts,
        tell: Callable[[str], object],
    ) -> None:
        seen.offers_http2 = offers_http2(address, within_s=self.patience_s)
        if not self._ask(address, headers, seen):
            seen.waited_s = self.answer_s
            return
        began_s = time.monotonic()
        with Visit(address, headers, within_s=self.patience_s) as visit:
            came = visit.wait_head(within_s=self.patience_s)
            if not came:
                self._flood(seen, lambda: visit.wait_head(within_s=self.answer_s))
            seen.answered_s = time.monotonic() - began_s
            if visit.status is None and visit.ended:
                seen.failure = _no_answer(visit)
                return
            _note_head(visit, seen)
            if came and seen.status == _OK and "event-stream" in seen.content_type:
                self._read(visit, seen, tell)
            seen.stayed_s = time.monotonic() - began_s
            _note_end(visit, seen)
        late = seen.flooded or (seen.probed and seen.probe_s is None)
        if seen.encoding and late and not seen.garbled:
            seen.plain_s = self._measure_plain(address, headers)
        if self.app.is_memory and seen.opened and not seen.told:
            seen.epochs = _meet_logs(address, headers, patience_s=self.patience_s)

    def _ask(self, address: Address, headers: Mapping[str, str], seen: StreamFacts) -> bool:
        """Ask for the head alone, which no stream holds up. False where nothing answers."""
        pids = set()
        for _ in range(_MEETINGS if self.app.is_memory else 1):
            with Visit(address, headers, method="HEAD", within_s=self.patience_s) as visit:
                seen.answers = visit.wait_head(within_s=self.answer_s) or bool(visit.ended)
                told = read_told(visit.headers.get(HEADER.lower(), ""))
            if not seen.answers:
                break
            if "pid" in told:
                pids.add(told["pid"])
        seen.pids = frozenset(pids)
        return seen.answers

    def _read(self, visit: Visit, seen: StreamFacts, tell: Callable[[str], object]) -> None:
        # The stream begins with a retry line and a comment.
        seen.opened = visit.wait_for(_COMMENT_LINE, within_s=self.patience_s)
        if not seen.opened and not visit.ended:
            self._flood(seen, lambda: visit.wait_for(_COMMENT_LINE, within_s=self.answer_s))
            return
        if not seen.opened:
            in_order = visit.ended in ("finished", "closed")
            seen.only_retry = in_order and visit.wait_for(b"\nretry: ", within_s=0)
        if self._can_probe and not visit.ended:
            self._send_probe(visit, seen)
        if not visit.ended and not seen.flushed:
            self._await_heartbeat(visit, seen, tell)

    def _send_probe(self, visit: Visit, seen: StreamFacts) -> None:
        try:
            seen.probe_s = self._measure(visit)
        except BrokerUnavailable as error:
            seen.trouble = error.why, error.remedy
            return
        seen.probed = True
        same_broker = seen.told.get("broker", self.app.broker) == self.app.broker
        if seen.probe_s is None and same_broker and not visit.ended:
            type_line = f"event: {_TYPE}\n".encode()
            self._flood(seen, lambda: visit.wait_for(type_line, within_s=self.answer_s))

    def _measure(self, visit: Visit) -> float | None:
        """Seconds from publishing a probe to its arrival; ``None`` where it does not come."""
        word = f"probe-{secrets.token_hex(8)}".encode()
        began_s = time.monotonic()
        self._publish(word.decode())
        if not visit.wait_for(word, within_s=self.patience_s):
            return None
        return time.monotonic() - began_s

    def _measure_plain(self, address: Address, headers: Mapping[str, str]) -> float | None:
        with Visit(address, headers, compressed=False, within_s=self.patience_s) as visit:
            opened = visit.wait_for(_COMMENT_LINE, within_s=self.answer_s)
            return self._measure(visit) if opened else None

    def _await_heartbeat(
        self, visit: Visit, seen: StreamFacts, tell: Callable[[str], object]
    ) -> None:
        heartbeat_s = seen.heartbeat_s(self.app)
        if heartbeat_s > LONGEST_HEARTBEAT_S:
            return
        within_s = heartbeat_s * _MARGIN + _MARGIN_S
        tell(f"Waiting up to {within_s:.0f} s for a heartbeat …")
        quiet_since_s = visit.last_byte_s
        seen.beat = visit.wait_for(_COMMENT_LINE, within_s=within_s)
        if seen.beat:
            seen.silent_s = visit.last_byte_s - quiet_since_s

    def _flood(self, seen: StreamFacts, wait: Callable[[], bool]) -> None:
        """Publish what no buffer holds, and see whether that brings what did not come."""
        if not self._own or not self._can_probe:
            return  # the channel's own readers would get it, too
        size = min(_FLOOD_BYTES, self.app.max_event_bytes)
        seen.flooded = True
        # Random, so that it does not become small where something compresses.
        self._publish(base64.b64encode(os.urandom(size)).decode()[:size])
        seen.flushed = wait()

    def _publish(self, data: str) -> None:
        self._publisher.publish(data, _TYPE, channel=self._channel)


def _meet_logs(
    address: Address, headers: Mapping[str, str], *, patience_s: float
) -> frozenset[str]:
    """The epochs of the logs that answer: in memory each process has one of its own.

    Without a key in common nobody tells the doctor of processes. But each stream says where
    its log stands to who asks with an empty last event ID.
    """
    there = Address.parse(f"{address.url}&lastEventId=")
    epochs: set[str] = set()
    for _ in range(_MEETINGS):
        with Visit(there, headers, within_s=patience_s) as visit:
            if not visit.wait_for(b"\nid: ", within_s=patience_s):
                break
            epochs.add((visit.read_line(within_s=patience_s) or "").partition("-")[0])
        if len(epochs) > 1:
            break
    return frozenset(epochs)


def _note_head(visit: Visit, seen: StreamFacts) -> None:
    said = visit.headers
    seen.status = visit.status
    seen.content_type = said.get("content-type", "")
    seen.location = said.get("location", "")
    seen.encoding = said.get("content-encoding", "")
    seen.cache_control = said.get("cache-control", "")
    seen.proxy = _proxy(said)
    seen.told = read_told(said.get(HEADER.lower(), ""))


def _proxy(said: Mapping[str, str]) -> str:
    """What stands between, where it names itself (RFC 9110, 7.6.3 and 10.2.4)."""
    server = said.get("server", "")
    is_python = server.lower().startswith(_PYTHON_SERVERS)
    return server if server and not is_python else said.get("via", "")


def _note_end(visit: Visit, seen: StreamFacts) -> None:
    seen.garbled = visit.garbled
    seen.broken = visit.broken
    if not seen.beat:
        seen.ended = visit.ended
        seen.silent_s = time.monotonic() - visit.last_byte_s


def _no_answer(visit: Visit) -> tuple[str, str]:
    if visit.broken:
        return "broken", visit.broken
    return "unreachable", "the connection ends without an answer"


def _failure(error: OSError) -> tuple[str, str]:
    why = error.strerror or str(error)
    if isinstance(error, socket.gaierror):
        return "no-host", why
    if isinstance(error, ssl.SSLCertVerificationError):
        return "tls", error.verify_message
    if isinstance(error, ssl.SSLError):
        return "tls", getattr(error, "reason", None) or why
    if isinstance(error, ConnectionRefusedError):
        return "refused", why
    return "unreachable", why


def _lacks_uvloop() -> bool:
    """True where uvloop could be there and is not."""
    wanted = os.name == "posix" and sys.implementation.name == "cpython"
    return wanted and importlib.util.find_spec("uvloop") is None
