"""The doctor's eyes: looks at the application, and at its stream through the address of users.

It changes nothing but the log of events: a probe and a ticket on channels of its own, and a large
event where nothing arrives, to see whether some buffer overflows. It blocks, for a bounded time.
"""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import json
import os
import secrets
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from flask_eventstream.access.ticket import HEADER, make_ticket, sign_ticket
from flask_eventstream.brokers import Broker, HasLimits
from flask_eventstream.config import Config
from flask_eventstream.doctor.findings import AppFacts, StreamFacts
from flask_eventstream.doctor.visit import Address, Visit, offers_http2
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

#: What a server may say of itself, and the type that it must have.
_TOLD: dict[str, tuple[type, ...]] = {
    "pid": (int,),
    "server": (str,),
    "several": (bool,),
    "broker": (str,),
    "heartbeat_s": (int, float),
    "lifetime_s": (int, float),
    "uvloop": (bool,),
    "held": (str,),
    "threads": (int,),
    "sent_away": (str,),
}


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
        self._ticket = make_ticket()
        self._own = channel is None
        self._channel = channel or f"sse-doctor-{secrets.token_hex(8)}"
        self._heartbeat_s = config.heartbeat_s
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
        address = Address.parse(self._stream_url(url))
        parts = urlsplit(address.url)
        seen = StreamFacts(
            url=address.url,
            host=address.host,
            port=address.port,
            should_be=urlunsplit(parts._replace(path=self.app.path, query="")),
            channel=self._channel,
            waited_s=self.patience_s,
            is_tls=address.is_tls,
        )
        with self._admitted() as admission:
            try:
                self._visit(address, {**headers, HEADER: admission}, seen, tell)
            except OSError as error:
                seen.failure = _failure(error)
        return seen

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
                self._flood(visit, seen, lambda: visit.status is not None)
            seen.answered_s = time.monotonic() - began_s
            if visit.status is None and visit.ended:
                seen.failure = "unreachable", "the connection ends without an answer"
                return
            _note_head(visit, seen)
            if came and seen.status == _OK and "event-stream" in seen.content_type:
                self._read(visit, seen, tell)
            seen.stayed_s = time.monotonic() - began_s
            _note_end(visit, seen)
        late = seen.flooded or (seen.probed and seen.probe_s is None)
        if seen.is_compressed and late and not seen.garbled:
            seen.plain_s = self._measure_plain(address, headers)

    def _ask(self, address: Address, headers: Mapping[str, str], seen: StreamFacts) -> bool:
        """Ask for the head alone, which no stream holds up. False where nothing answers."""
        pids = set()
        for _ in range(_MEETINGS if self.app.is_memory else 1):
            with Visit(address, headers, method="HEAD", within_s=self.patience_s) as visit:
                seen.answers = visit.wait_head(within_s=self.answer_s) or bool(visit.ended)
                told = _told(visit)
            if "pid" in told:
                pids.add(told["pid"])
        seen.pids = frozenset(pids)
        return seen.answers

    def _read(self, visit: Visit, seen: StreamFacts, tell: Callable[[str], object]) -> None:
        # The stream begins with a retry line and a comment.
        seen.opened = visit.wait(lambda: b":\n" in visit.body, within_s=self.patience_s)
        if not seen.opened and not visit.ended:
            self._flood(visit, seen, lambda: b":\n" in visit.body)
            return
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
            self._flood(visit, seen, lambda: _TYPE.encode() in visit.body)

    def _measure(self, visit: Visit) -> float | None:
        """Seconds from publishing a probe to its arrival; ``None`` where it does not come."""
        word = f"probe-{secrets.token_hex(8)}".encode()
        began_s = time.monotonic()
        self._publish(word.decode())
        if not visit.wait(lambda: word in visit.body, within_s=self.patience_s):
            return None
        return time.monotonic() - began_s

    def _measure_plain(self, address: Address, headers: Mapping[str, str]) -> float | None:
        with Visit(address, headers, compressed=False, within_s=self.patience_s) as visit:
            opened = visit.wait(lambda: b":\n" in visit.body, within_s=self.answer_s)
            return self._measure(visit) if opened else None

    def _await_heartbeat(
        self, visit: Visit, seen: StreamFacts, tell: Callable[[str], object]
    ) -> None:
        heartbeat_s = float(seen.told.get("heartbeat_s", self._heartbeat_s))
        within_s = heartbeat_s * _MARGIN + _MARGIN_S
        tell(f"Waiting up to {within_s:.0f} s for a heartbeat …")
        before, quiet_since_s = len(visit.body), visit.last_byte_s
        seen.beat = visit.wait(lambda: b":\n" in visit.body[before:], within_s=within_s)
        if seen.beat:
            seen.silent_s = visit.last_byte_s - quiet_since_s

    def _flood(self, visit: Visit, seen: StreamFacts, condition: Callable[[], bool]) -> None:
        """Publish what no buffer holds, and see whether that brings what did not come."""
        if not self._own or not self._can_probe:
            return  # the channel's own readers would get it, too
        size = min(_FLOOD_BYTES, self.app.max_event_bytes)
        seen.flooded = True
        # Random, so that it does not become small where something compresses.
        self._publish(base64.b64encode(os.urandom(size)).decode()[:size])
        seen.flushed = visit.wait(condition, within_s=self.answer_s)

    def _publish(self, data: str) -> None:
        self._publisher.publish(data, _TYPE, channel=self._channel)


def _note_head(visit: Visit, seen: StreamFacts) -> None:
    seen.status = visit.status
    seen.content_type = visit.headers.get("Content-Type", "")
    seen.location = visit.headers.get("Location", "")
    seen.is_compressed = bool(visit.headers.get("Content-Encoding"))
    seen.told = _told(visit)


def _note_end(visit: Visit, seen: StreamFacts) -> None:
    seen.garbled = visit.garbled
    if not seen.beat:
        seen.ended = visit.ended
        seen.silent_s = time.monotonic() - visit.last_byte_s


def _told(visit: Visit) -> dict[str, Any]:
    try:
        said = json.loads(visit.headers.get(HEADER, "{}"))
    except ValueError:
        return {}
    if not isinstance(said, dict):
        return {}
    told = {name: said[name] for name in _TOLD if isinstance(said.get(name), _TOLD[name])}
    # What is not our app may say anything, and nobody waits for an eternity.
    bounds = {"heartbeat_s": (0, 3600), "lifetime_s": (-1, 1e9)}
    return {
        name: value
        for name, value in told.items()
        if name not in bounds or bounds[name][0] < value <= bounds[name][1]
    }


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
