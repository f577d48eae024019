"""What the doctor saw: facts, filled in by probe.py and judged by findings.py. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["LONGEST_HEARTBEAT_S", "AppFacts", "StreamFacts"]

#: Nobody waits for a heartbeat that is further away. It is also what proxies bear of silence:
#: nginx and AWS cut after 60 s.
LONGEST_HEARTBEAT_S = 60.0


@dataclass(slots=True)
class AppFacts:
    """What can be seen from the application alone."""

    broker: str
    app: str
    """What a server is told to serve: ``shop:app``."""
    path: str
    """Where the application has its stream."""
    heartbeat_s: float
    lifetime_s: float
    max_event_bytes: int
    takes_events: bool = False
    """True where the broker took one."""
    trouble: tuple[str, str] | None = None
    """Why it took none, and what helps."""
    lacks_uvloop: bool = False
    redis: Mapping[str, str] | None = None
    """What a Redis server says of itself, as far as it does."""

    @property
    def is_memory(self) -> bool:
        """True where no other process can publish."""
        return self.broker.startswith("memory:")


@dataclass(slots=True)
class StreamFacts:
    """What happened on a visit to the stream. Filled in as it happens.

    Whatever the server sent stands here as it came; report.py makes it fit to be shown.
    """

    url: str
    asked: str
    """The address that was asked for, without the doctor's channel."""
    host: str
    port: int
    should_be: str
    """The address that the stream would have on this host."""
    channel: str
    waited_s: float
    """How long anything was waited for, but heartbeats."""
    is_tls: bool = False
    is_own_channel: bool = True
    """False where the user named the channel."""
    has_headers: bool = False
    """True where the user gave some, such as a cookie."""
    failure: tuple[str, str] | None = None
    """Why there was no connection: the key of a finding, and the system's words."""
    offers_http2: bool = False
    answers: bool = False
    """To a HEAD request."""
    status: int | None = None
    """Of the stream; ``None`` where no head came."""
    content_type: str = ""
    location: str = ""
    encoding: str = ""
    """Of the body, as its head says; empty where it is plain."""
    cache_control: str = ""
    proxy: str = ""
    """What stands between, where it names itself."""
    garbled: bool = False
    broken: str = ""
    """What is not HTTP about the answer."""
    answered_s: float = 0.0
    told: Mapping[str, Any] = field(default_factory=dict)
    """What the server says of itself to a good ticket."""
    pids: frozenset[int] = frozenset()
    """Of the processes that answered."""
    epochs: frozenset[str] = frozenset()
    """Of the logs that answered, where processes have one each."""
    opened: bool = False
    """True where the first line came in time."""
    only_retry: bool = False
    """True where the whole stream was the word when to come back."""
    flooded: bool = False
    """True where a large event was published to see whether a buffer overflows."""
    flushed: bool = False
    """True where that brought what had not come."""
    trouble: tuple[str, str] | None = None
    """Why the broker took no probe, and what helps."""
    probed: bool = False
    probe_s: float | None = None
    """How long the probe took; ``None`` where it did not come in time."""
    plain_s: float | None = None
    """The same without compression, where compression was suspected."""
    ended: str = ""
    """How the stream ended, by the words of `visit.Visit.ended`."""
    silent_s: float = 0.0
    """Between the last byte, and the heartbeat or the end or when waiting was given up."""
    stayed_s: float = 0.0
    """From the request to its end, or to when we left."""
    beat: bool = False
    """True where a heartbeat came."""

    def heartbeat_s(self, app: AppFacts) -> float:
        """How often one should come: the server knows better than this command."""
        return float(self.told.get("heartbeat_s", app.heartbeat_s))

    def lifetime_s(self, app: AppFacts) -> float:
        """How long the stream may last, as the server says, or else this command."""
        return float(self.told.get("lifetime_s", app.lifetime_s))
