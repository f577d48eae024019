"""A hub on an event loop, without server and network: socket pairs are its clients.

A test writes one coroutine, the scenario, and everything happens on its loop: what the hub does,
what the log does, and what the clients read. So a test can say "in the same turn of the loop".
"""

from __future__ import annotations

import _socket
import asyncio
import socket
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from typing import Any, TypeVar

import uvloop

from flask_eventstream.brokers import Broker, Inbox, Listener
from flask_eventstream.brokers.memory import MemoryBroker
from flask_eventstream.config import Config
from flask_eventstream.event import Event
from flask_eventstream.hub.admission import Admission, StreamCount
from flask_eventstream.hub.adoption import Adoption
from flask_eventstream.hub.hub import Hub
from flask_eventstream.hub.observer import Observer, Unobserved
from flask_eventstream.hub.request import After, Now, StreamRequest
from flask_eventstream.log.entries import Missed, Over, Replay, Standing, UpToDate
from harness.event_stream import Dispatched, EventStreamParser
from harness.waiting import Deadline

__all__ = ["LOOPS", "Client", "Clock", "Log", "Stage", "has_ended", "perform", "until"]

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}

T = TypeVar("T")

READ_BYTES = 1 << 20
SCENARIO_WITHIN_S = 20.0
# What a stream's connection has, besides the client's socket.
CONNECTION = {"head_pair", "head", "may_chunk", "feed"}
# Long enough for a loop on a busy machine to take many turns, short enough to wait for.
POLL_S = 0.002


class Clock(asyncio.SelectorEventLoop):
    """An event loop whose time passes only while it has nothing to do, and then at once.

    `await asyncio.sleep(60)` takes no time, and everything that was due meanwhile has happened, in
    order. Sockets are real.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def time(self) -> float:
        return self.now_s

    def _run_once(self) -> None:
        inside: Any = self
        if not inside._ready:
            ready = inside._selector.select(0)
            inside._process_events(ready)
            if not ready and inside._scheduled:
                self.now_s = max(self.now_s, inside._scheduled[0].when())
        super()._run_once()  # type: ignore[misc]  # known to the source alone


def has_ended(broker: Broker, channels: Sequence[str], after: str | None) -> bool:
    """True where all these channels are ended and a reader at ``after`` has seen it all."""
    return isinstance(broker.arrive(channels, after), Over)


async def until(condition: Callable[[], T], *, within_s: float = 10, what: str) -> T:
    """`wait_until` for a scenario: the loop goes on meanwhile."""
    deadline = Deadline(within_s)
    while not (value := condition()):
        if deadline.passed:
            raise AssertionError(f"waited {within_s:g} s for {what}; the last value was {value!r}")
        await asyncio.sleep(POLL_S)
    return value


class Log:
    """A broker in memory that a test can take away, and that counts what the hub asks of it."""

    url = "memory://"
    is_shared = False

    def __init__(self) -> None:
        self.memory = MemoryBroker(self.url, retention=None)
        self.present = asyncio.Event()
        """Cleared while the log is away: replays wait, as a listener's contract says."""
        self.present.set()
        self.replays = 0
        self.listeners: list[_Listener] = []

    def publish(self, channel: str, event: Event) -> str:
        return self.memory.publish(channel, event)

    def publish_many(self, channel: str, events: Sequence[Event]) -> list[str]:
        return self.memory.publish_many(channel, events)

    def publish_to(self, channels: Sequence[str], event: Event) -> list[str]:
        return self.memory.publish_to(channels, event)

    def end(self, channel: str) -> None:
        self.memory.end(channel)

    def arrive(self, channels: Sequence[str], after: str | None) -> Standing:
        return self.memory.arrive(channels, after)

    def listen(self, loop: asyncio.AbstractEventLoop, inbox: Inbox) -> Listener:
        listener = _Listener(self, self.memory.listen(loop, inbox))
        self.listeners.append(listener)
        return listener

    def close(self) -> None:
        self.memory.close()


class _Listener:
    def __init__(self, log: Log, inner: Listener) -> None:
        self._log = log
        self._inner = inner
        self.channels: set[str] = set()
        self.stopped = False
        self._waiting: set[asyncio.Future[Any]] = set()

    async def subscribe(self, channels: Collection[str]) -> None:
        self.channels.update(channels)
        await self._inner.subscribe(channels)

    def follow(self, standing: UpToDate) -> bool:
        self.channels.update(standing.latest)
        return self._log.present.is_set() and self._inner.follow(standing)

    def unsubscribe(self, channels: Collection[str]) -> None:
        self.channels.difference_update(channels)
        self._inner.unsubscribe(channels)

    async def replay(self, channels: Sequence[str], after: str | None) -> Replay:
        self._log.replays += 1
        waiting = asyncio.ensure_future(self._log.present.wait())
        self._waiting.add(waiting)
        waiting.add_done_callback(self._waiting.discard)
        await waiting
        return await self._inner.replay(channels, after)

    def stop(self) -> None:
        self.stopped = True
        for waiting in tuple(self._waiting):
            waiting.cancel()
        self._inner.stop()


class Client:
    """The other end of a stream's connection, and what has come out of it."""

    def __init__(self, *, buffer_bytes: int | None = None) -> None:
        self._socket, theirs = socket.socketpair()
        if buffer_bytes is not None:
            # The kernel keeps the doubled value for its own books: "about" this much fits.
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        self._socket.setblocking(False)  # noqa: FBT003  the name of the method says what is False
        self.hub_end = _socket.socket(fileno=theirs.detach())
        self.hub_end.settimeout(0)
        self.raw = bytearray()
        self.chunks: list[bytes] = []
        """What each read brought: one write of the hub, where it was read soon."""
        self.events: list[Dispatched] = []
        self.parser = EventStreamParser()
        self.reads = True
        """False: the client takes nothing, whatever comes."""
        self.ended = False
        self.reset = False
        """The connection was broken, not ended."""

    @property
    def data(self) -> list[str]:
        """The data of the application's own events so far."""
        return [e["data"] for e in self.events if not e["type"].startswith("stream-")]

    def take(self) -> None:
        """Read what is there."""
        while self.reads and not self.ended:
            try:
                received = self._socket.recv(READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                received = b""
                self.reset = True
            if received:
                self.chunks.append(received)
                self.raw += received
                self.events += self.parser.feed(received)
            else:
                self.ended = True

    async def until(
        self, condition: Callable[[Client], object], what: str, within_s: float = 10
    ) -> None:
        """Read until the condition holds."""

        def holds() -> bool:
            self.take()
            return bool(condition(self))

        try:
            await until(holds, within_s=within_s, what=what)
        except AssertionError as error:
            raise AssertionError(f"{error}; got so far {bytes(self.raw[-300:])!r}") from None

    async def opened(self) -> None:
        """Wait for the first byte of the stream."""
        await self.until(lambda c: c.parser.comments, "the first byte")

    async def got(self, *data: str) -> None:
        """Wait until so many events are there; they must be these, and no other."""
        await self.until(lambda c: len(c.data) >= len(data) or c.ended, f"the events {data}")
        assert self.data == list(data)

    async def end(self, within_s: float = 10) -> None:
        """Wait for the end of the stream."""
        await self.until(lambda c: c.ended, "the end of the stream", within_s)

    def send(self, data: bytes) -> int:
        return self._socket.send(data)

    def half_close(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()


class Stage:
    """What a scenario works with. All of it ends with the scenario."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.log = Log()
        self.released: list[int] = []
        self._hubs: list[Hub] = []
        self._clients: list[Client] = []

    def hub(
        self,
        *,
        max_streams: int = 1000,
        random: float = 0.5,
        broker: Broker | None = None,
        observer: Observer | None = None,
        now: Callable[[], float] = time.time,
        **config: Any,
    ) -> Hub:
        """A hub on the scenario's log; `config` is in the words of `Config`."""
        settings = Config(max_streams=max_streams, **config)
        hub = Hub(
            self.loop,
            broker or self.log,
            settings,
            admission=Admission(settings, random=lambda: random, process=StreamCount()),
            random=lambda: random,
            released=self.released.append,
            observer=observer or Unobserved(),
        )
        hub._expiry._now = now
        self._hubs.append(hub)
        return hub

    def client(
        self,
        hub: Hub,
        *channels: str,
        after: str | None = None,
        buffer_bytes: int | None = None,
        **more: Any,
    ) -> Client:
        """A client whose stream the hub has just been given; by default of the channel `sse`.

        `more` is in the words of `StreamRequest` and of `Adoption`. As in a view, the log is asked
        where it stands, unless a `standing` is given.
        """
        client = Client(buffer_bytes=buffer_bytes)
        self._clients.append(client)
        connection = {name: more.pop(name) for name in CONNECTION & more.keys()}
        start = Now() if after is None else After(after)
        if "feed" not in connection:
            channels = channels or ("sse",)
            if "standing" not in more:
                standing = hub._broker.arrive(channels, after)
                more["standing"] = Missed() if isinstance(standing, Over) else standing
        hub.adopt(Adoption(client.hub_end, StreamRequest(channels, start, **more), **connection))
        return client

    async def opened(self, hub: Hub, *channels: str, **more: Any) -> Client:
        """A client whose stream is live."""
        client = self.client(hub, *channels, **more)
        await client.opened()
        await until(lambda: not self.opening(hub), what="the stream to be live")
        return client

    def opening(self, hub: Hub) -> int:
        """How many streams are not live yet."""
        return sum(stream.opening is not None for stream in hub._streams)

    def publish(self, *data: str, channel: str = "sse") -> list[str]:
        return [self.log.publish(channel, Event(each)) for each in data]

    async def close(self) -> None:
        for client in self._clients:
            client.close()
        for hub in self._hubs:
            await hub.stop(1)


def perform(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
    scenario: Callable[[Stage], Coroutine[Any, Any, None]],
) -> None:
    """Run a scenario to its end. What the loop would only log makes it fail."""
    loop = new_loop()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    # The seconds of a clock that jumps are no measure of patience; pytest's own timeout is.
    within_s = None if isinstance(loop, Clock) else SCENARIO_WITHIN_S

    async def main() -> None:
        stage = Stage(loop)
        try:
            await asyncio.wait_for(scenario(stage), within_s)
        finally:
            await stage.close()
            leftovers = asyncio.all_tasks() - {asyncio.current_task()}
            await asyncio.gather(*leftovers, return_exceptions=True)
            await asyncio.sleep(POLL_S)  # what was aborted is told so in the next turns

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()

    assert complaints == []
