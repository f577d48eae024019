"""Who may have a stream, and what those get who may not: one decision, one answer, one count.

The answer is 200, a ``retry:`` at random, and the end: any other status ends an EventSource for
good, and clients that are sent away together must not come back together.
"""

from __future__ import annotations

import enum
import ipaddress
import logging
from collections import Counter
from collections.abc import Callable, Mapping

from flask_eventstream.config import Config
from flask_eventstream.errors import InvalidChannel
from flask_eventstream.event import COMMENT, encode_retry
from flask_eventstream.hub.request import Reader
from flask_eventstream.process import Lock, in_forked_child, open_file_limit

__all__ = ["IN_THIS_PROCESS", "Admission", "Refusal", "Refused", "StreamCount"]

_LOGGER = logging.getLogger("flask_eventstream")

#: Descriptors left for everything that is no stream: the log, databases, ordinary requests, and
#: three for each connection that is being taken over.
_RESERVED_FILES = 100

#: Of the threads of a server, one in so many may hold a stream, where no connection can be taken
#: over: ordinary requests have the other half.
_ONE_THREAD_IN = 2

#: The least that a client waits who is sent away: the successor of a stopping process must be
#: listening by then.
_LEAST_RETRY_MS = 100

#: Of an IPv6 address, the bits that a provider gives to one customer, who chooses the others.
_IPV6_CUSTOMER_BITS = 64


class Refusal(enum.Enum):
    """Why a reader is sent away. The same word stands in statistics and documentation."""

    FULL = "full"
    """This process holds as many streams as it may."""
    ADDRESS = "address"
    """Its address has as many streams in this process as one may."""
    SUBJECT = "subject"
    """Its subject has as many streams in this process as one may."""
    NO_THREAD = "no-thread"
    """No thread can be spared to hold a stream, or to run the hub."""
    NO_DESCRIPTOR = "no-descriptor"
    """The system gives this process no further descriptor."""
    STOPPING = "stopping"
    """The process, or the application, is going down."""


class Refused(RuntimeError):
    """No stream can be had now; its reader shall come back."""

    def __init__(self, why: Refusal, detail: str) -> None:
        super().__init__(detail)
        self.why = why
        self.detail = detail


class StreamCount:
    """What streams have of a process, of all its applications: descriptors, and threads."""

    def __init__(self) -> None:
        self._begin_anew()
        in_forked_child(self._begin_anew)

    def _begin_anew(self) -> None:
        """At the beginning, and in a forked child, which has none of its parent's threads."""
        self.streams = 0
        self.held_threads = 0
        self.freed: list[None] = []
        """One for each thread that is free again and not yet subtracted."""
        self.lock = Lock()


#: This process's.
IN_THIS_PROCESS = StreamCount()


class _TooManyChannels(InvalidChannel):
    """Each could be one, but not all on one stream."""

    def __str__(self) -> str:
        return f"{self.channel} channels: {self.why}"


class Admission:
    """Decides for one application in this process, on however many loops. Any thread may ask.

    Args:
        config: The limits.
        random: A number from 0 to 1, to spread reconnects.
        process: Counts what all applications have.
    """

    def __init__(
        self,
        config: Config,
        *,
        random: Callable[[], float],
        process: StreamCount = IN_THIS_PROCESS,
    ) -> None:
        self._config = config
        self._random = random
        self._process = process
        self._streams = 0
        self._of_address: Counter[str] = Counter()
        self._of_subject: Counter[str] = Counter()
        self._server_files = 0
        self._refused: Counter[str] = Counter()
        self._lock = Lock()
        in_forked_child(self._begin_anew)

    @property
    def refused(self) -> Mapping[str, int]:
        """How many readers were sent away so far, by `Refusal` value."""
        return dict(self._refused)

    def check_channels(self, channels: int) -> None:
        """One stream may read so many channels.

        Raises:
            InvalidChannel: It may not.
        """
        most = self._config.max_channels
        if channels > most:
            why = f"more than {most} in one stream: see SSE_MAX_CHANNELS"
            raise _TooManyChannels(channels, why)

    def enter(self, reader: Reader) -> tuple[Refusal, str] | None:
        """Count a reader's stream in; where there is no room, say why instead, and the remedy."""
        with self._process.lock:
            full = self._why_full()
            if full is not None:
                return Refusal.FULL, full
            address, subject = self._counted(reader)
            most = self._config.max_streams_per_address
            if address and most and self._of_address[address] >= most:
                return Refusal.ADDRESS, (
                    f"its address has {most} here, all that SSE_MAX_STREAMS_PER_ADDRESS allows:"
                    " raise it; if that is your proxy's address, add werkzeug's ProxyFix"
                )
            most = self._config.max_streams_per_subject
            if subject and self._of_subject[subject] >= most:
                return Refusal.SUBJECT, (
                    f"its subject has {most} here, all that SSE_MAX_STREAMS_PER_SUBJECT allows:"
                    " raise it, or let the pages close what they do not read"
                )
            self._count(reader, 1)
            return None

    def leave_to_server(self, files: int) -> None:
        """Leave so many descriptors to the server's own connections, of which it spoke."""
        self._server_files = files + _RESERVED_FILES

    def leave(self, reader: Reader) -> None:
        """A stream that was counted in is gone."""
        with self._process.lock:
            self._count(reader, -1)

    def _count(self, reader: Reader, streams: int) -> None:
        self._streams += streams
        self._process.streams += streams
        address, subject = self._counted(reader)
        _add(self._of_address, address, streams)
        _add(self._of_subject, subject, streams)

    def _counted(self, reader: Reader) -> tuple[str | None, str | None]:
        """What the reader's stream counts for; an address only where somebody asks for it."""
        bounded = self._config.max_streams_per_address is not None
        address = _customer_of(reader.address) if bounded and reader.address else None
        return address, reader.subject

    def _why_full(self) -> str | None:
        most = self._config.max_streams
        if most:
            if self._streams < most:
                return None
            return f"{self._streams} are open, all that SSE_MAX_STREAMS allows: raise it"
        files = open_file_limit()
        # Half of a low limit at most: a server rarely has all the connections that it may have.
        most = max(files - max(_RESERVED_FILES, min(self._server_files, files // 2)), 1)
        if self._process.streams < most:
            return None
        allows = "all that the limit on open files allows: raise ulimit -n"
        return f"{self._process.streams} are open, {allows}"

    def hold_thread(self, threads: int | None) -> bool:
        """Count a stream that holds a thread; False where none can be spared.

        The threads are the process's: two applications have no more of them than one.

        Args:
            threads: How many the server has; ``None`` where it does not say. Then one stream must
                do, unless somebody who knows set SSE_MAX_STREAMS.
        """
        # A server with one thread can spare none, and no stream at all would be worse: it gets
        # one, and a short life (see servers/wsgi).
        limit = threads // _ONE_THREAD_IN if threads is not None else self._config.max_streams
        process = self._process
        with process.lock:
            while process.freed:
                process.freed.pop()
                # Not below none: in a forked child, the parent's bodies are forgotten one by one.
                process.held_threads = max(process.held_threads - 1, 0)
            if process.held_threads >= max(limit or 0, 1):
                return False
            process.held_threads += 1
            return True

    def free_thread(self) -> None:
        """The stream that held a thread is over. Takes no lock: a destructor may call it."""
        self._process.freed.append(None)

    def refuse(self, why: Refusal, detail: str) -> bytes:
        """Count a reader who is sent away, and say so once. Returns what it gets, after its head.

        Args:
            why: The kind; each is logged once in a process.
            detail: What happened, and what to do about it.
        """
        with self._lock:
            self._refused[why.value] += 1
            first = self._refused[why.value] == 1
        if first and why is not Refusal.STOPPING:
            _LOGGER.warning("A stream was sent away: %s", detail)
        return self.come_back()

    def come_back(self) -> bytes:
        """A retry that keeps clients who are sent away from coming back at once."""
        return encode_retry(self.spread_ms()) + COMMENT

    def spread_ms(self) -> int:
        """Milliseconds at random, up to the configured retry, and a little more."""
        return int(_LEAST_RETRY_MS + self._config.retry_ms * self._random())

    def _begin_anew(self) -> None:
        """In a forked child: the parent's streams are not its own."""
        self._lock = Lock()
        self._streams = 0
        self._of_address = Counter()
        self._of_subject = Counter()
        self._refused = Counter()


def _add(counts: Counter[str], key: str | None, number: int) -> None:
    if key:
        counts[key] += number
        if not counts[key]:
            del counts[key]  # or every key that ever came would stay


def _customer_of(address: str) -> str:
    """Whom an address belongs to: itself, or its IPv6 network, of which one machine has all."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if parsed.version == 4:  # noqa: PLR2004
        return str(parsed)
    if parsed.ipv4_mapped is not None:  # a server that listens on both
        return str(parsed.ipv4_mapped)
    return str(ipaddress.ip_network((parsed, _IPV6_CUSTOMER_BITS), strict=False))
