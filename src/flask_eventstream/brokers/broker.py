"""What a broker is: a log of events per channel, and a way to hear of new ones.

Two sides with one colour each. The publishing side (`Broker`) is synchronous and may be called
from any thread and any process. The reading side (`Listener`) belongs to one event loop, the
hub's. The log is the truth: whatever a listener delivers, it delivers in the order of the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from flask_eventstream.errors import InvalidChannel
from flask_eventstream.event import Event, obvious_text
from flask_eventstream.log.entries import HIDDEN, Entry, Replay, Standing, UpToDate

__all__ = [
    "Broker",
    "HasClient",
    "HasControl",
    "HasHistory",
    "HasLimits",
    "HasRecords",
    "HasShares",
    "Inbox",
    "Listener",
    "check_channel",
]

#: Long enough for "tenant-uuid:resource-uuid:kind", short enough that 32 fit a request line.
_MAX_CHANNEL_BYTES = 200


class Inbox(Protocol):
    """The hub, as a listener sees it. Called on the hub's loop only."""

    def deliver(self, entries: Sequence[Entry]) -> None:
        """New entries of subscribed channels, in the order of the log."""

    def interrupted(self, channels: Collection[str] | None, position: str) -> None:
        """Something of these channels (``None``: of all) is gone. Readers go on at ``position``."""


class Listener(Protocol):
    """The reading side. All of it on the loop that it was made for, and none of it blocks."""

    async def subscribe(self, channels: Collection[str]) -> None:
        """Deliver these channels from now on. Returns when no later entry can be missed."""

    def follow(self, standing: UpToDate) -> bool:
        """Deliver a reader's channels from right after its page on, if that can be at once.

        True: every later entry will be delivered, and no earlier one. False: nobody can promise
        that now, so `subscribe` and `replay`.
        """

    def unsubscribe(self, channels: Collection[str]) -> None:
        """Deliver these channels no more."""

    async def replay(self, channels: Sequence[str], after: str | None) -> Replay:
        """Read the log after a last event ID (``None``: nothing, just where the log stands now).

        When it returns, every entry of these channels up to the page's ``sequence`` has been
        delivered to the inbox: whoever has the page needs nothing older, and those who are live
        have it too.

        While the broker is away this waits until it is back; it raises only when stopped.
        """

    def stop(self) -> None:
        """End the reading side: no delivery follows, and pending replays are cancelled."""


class Broker(Protocol):
    """The publishing side. Any thread, any process; each call takes a bounded time."""

    @property
    def url(self) -> str:
        """Where the log is, fit to be shown: without a password."""

    @property
    def is_shared(self) -> bool:
        """True where other processes can publish to the log, and read it."""

    def publish(self, channel: str, event: Event) -> str:
        """Append and wake every listener, in one atomic step. Returns the event's id.

        Raises:
            BrokerUnavailable: It was not appended.
        """

    def publish_many(self, channel: str, events: Sequence[Event]) -> list[str]:
        """Append events in this order, cheaper than one by one. Returns their ids.

        Raises:
            BrokerUnavailable: Not all were appended; perhaps some were.
        """

    def publish_to(self, channels: Sequence[str], event: Event) -> list[str]:
        """Append one event to each of these channels, cheaper than one by one. Returns its ids.

        Args:
            channels: Each once.
            event: The same for all of them.

        Raises:
            BrokerUnavailable: Not all have it; perhaps some have.
        """

    def end(self, channel: str) -> None:
        """Append the channel's end. An event published later opens the channel again.

        Raises:
            BrokerUnavailable: It was not appended.
        """

    def arrive(self, channels: Sequence[str], after: str | None) -> Standing:
        """How a reader at ``after`` (``None``: a fresh one) stands to the log.

        Asked in each request for a stream, so it must be cheap: for whom it says `Missed`, the
        listener's `replay` finds out what.

        Raises:
            InvalidChannel: This broker can't have a channel of such a name.
            BrokerUnavailable: Nobody knows.
        """

    def listen(self, loop: asyncio.AbstractEventLoop, inbox: Inbox) -> Listener:
        """Begin to listen. Call on ``loop``."""

    def close(self) -> None:
        """Free what this process holds of the broker."""


@runtime_checkable
class HasLimits(Protocol):
    """A broker whose server has limits of its own."""

    def limits(self) -> Mapping[str, str]:
        """What the server allows its clients, as far as it says.

        Raises:
            BrokerUnavailable: It does not answer.
        """


@runtime_checkable
class HasControl(Protocol):
    """A broker through which the processes of an application tell each other something."""

    def control(self, text: str) -> str:
        """Append a control entry to `CONTROL_CHANNEL`, whose listeners hear it. Any thread.

        It lies in the log as events do, for as long. Returns its position.

        Raises:
            BrokerUnavailable: It was not appended, or nobody knows.
        """


@runtime_checkable
class HasRecords(Protocol):
    """A broker that remembers texts, by name and for a time, beside its log. Any thread."""

    def remember(self, name: str, text: str, *, for_s: float) -> None:
        """Keep a text in place of what had its name.

        Args:
            name: Letters, digits and ``-_``, at most 100 characters.
            text: At most some hundred bytes: every reader may ask for it.
            for_s: Seconds after which it may be forgotten.

        Raises:
            BrokerUnavailable: It may not be kept.
        """

    def recall(self, name: str) -> str | None:
        """The text of this name; ``None`` where there is none, or none any more.

        Raises:
            BrokerUnavailable: Nobody knows. Blocks no longer than `Broker.arrive` does.
        """


@runtime_checkable
class HasShares(Protocol):
    """A broker in which each process says what it has of channels, for as long as it lives.

    What a process said is its share. Any thread; each call blocks for a second at the most.
    """

    def share(
        self, owner: str, changed: Mapping[str, str], *, for_s: float, whole: bool = False
    ) -> bool:
        """Say what is so for ``for_s`` seconds from now on, unless it is said again.

        Args:
            owner: The process' own name: letters and digits.
            changed: Texts by channel, in place of earlier ones. An empty one takes it away.
            for_s: Seconds, for all that the owner has said.
            whole: True where nothing counts that was said before.

        Returns:
            False where what was said before is gone, and nothing was done: say the whole.

        Raises:
            BrokerUnavailable: It may not be known.
        """

    def unshare(self, owner: str) -> None:
        """Take away all that an owner said.

        Raises:
            BrokerUnavailable: It may be there for as long as it was to be.
        """

    def shares(self, channel: str) -> Sequence[str]:
        """What all owners say of a channel, in no order.

        Raises:
            BrokerUnavailable: Nobody knows.
        """


@runtime_checkable
class HasHistory(Protocol):
    """A broker whose log can be read from its end. Any thread."""

    def newest(self, channel: str, count: int) -> Sequence[Entry]:
        """The last entries of a channel that a reader may still get, oldest first.

        At most ``count``, at most a page (`PAGE` entries), and of about `PAGE_SIZE` bytes.

        Raises:
            InvalidChannel: This broker can't have a channel of such a name.
            BrokerUnavailable: The log can't be read.
        """


@runtime_checkable
class HasClient(Protocol):
    """A broker whose server applications may have commands of their own for."""

    def client(self) -> Any:
        """A client of the server's own kind, the same one each time. Any thread."""


def check_channel(channel: object) -> str:
    """The name of a channel as text.

    A number or a UUID, as primary keys are, has one obvious text, and so have UTF-8 bytes; the
    older extension took them, too.

    Raises:
        InvalidChannel: It has no obvious text, is empty, too long, has control characters, or
            begins as the channels do that Redis publishes to itself.
    """
    if type(channel) is not str:
        return check_channel(_channel_text(channel))
    if channel.startswith(HIDDEN):
        # So do the log's own. And __keyevent@0__:set names the keys of everybody on the server,
        # session ids among them.
        raise InvalidChannel(channel, "begins with two underscores, as Redis' own channels do")
    if 0 < len(channel) <= _MAX_CHANNEL_BYTES and channel.isascii() and channel.isprintable():
        return channel  # most are; the rest is to find out what is wrong with the others
    if not channel:
        raise InvalidChannel(channel, "is empty: name a channel, or leave it out for 'sse'")
    if any(ord(character) < 32 or ord(character) == 127 for character in channel):  # noqa: PLR2004
        raise InvalidChannel(channel, "has a control character: use printable text")
    try:
        size_bytes = len(channel.encode())
    except UnicodeEncodeError as error:
        raise InvalidChannel(channel, "has a lone surrogate, which UTF-8 can't carry") from error
    if size_bytes > _MAX_CHANNEL_BYTES:
        raise InvalidChannel(channel, f"is longer than {_MAX_CHANNEL_BYTES} bytes: shorten it")
    return channel


def _channel_text(channel: object) -> str:
    if isinstance(channel, bytes):
        try:
            return channel.decode()
        except UnicodeDecodeError as error:
            raise InvalidChannel(channel, "is bytes that are no UTF-8: give it as text") from error
    text = obvious_text(channel)
    if text is None:
        hint = ": leave it out for 'sse'" if channel is None else ""
        why = f"must be text or a number, not {type(channel).__name__}{hint}"
        raise InvalidChannel(channel, why)
    return text
