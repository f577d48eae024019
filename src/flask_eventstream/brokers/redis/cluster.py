"""The reading side in a cluster: a listener per node, and channels that move between them.

Each channel is a log of its own, on the node that has its slot, and a shard channel there
(``SSUBSCRIBE``, Redis 7): an event costs one node, and more nodes carry more channels. When a
channel's slot moves, or its primary is lost, the listener of the new node goes on from where that
of the old one was, as any listener does after a broken connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Collection, Mapping, Sequence

from flask_eventstream.brokers.broker import Inbox
from flask_eventstream.brokers.redis.listener import RedisListener
from flask_eventstream.brokers.redis.pages import LogReader
from flask_eventstream.brokers.redis.reports import Reports
from flask_eventstream.brokers.redis.scripts import Keys
from flask_eventstream.brokers.redis.session import FAILURES, failures_told
from flask_eventstream.brokers.redis.slots import Slots
from flask_eventstream.brokers.redis.url import Address, RedisUrl
from flask_eventstream.log.entries import Place, Replay, Retention, UpToDate
from flask_eventstream.log.position import compose, decompose

__all__ = ["ClusterListener", "merge_replays"]

#: Seconds for a node to say who has which slots, and between two times that it is asked.
_ASK_S = 1.0
_PAUSE_S = 0.1
#: Seconds for an answer about a log.
_ANSWER_S = 5.0


class ClusterListener:
    """Listens to all nodes that have a channel with readers. Belongs to the loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        inbox: Inbox,
        url: RedisUrl,
        *,
        keys: Keys,
        retention: Retention | None,
    ) -> None:
        self._loop = loop
        self._inbox = inbox
        self._url = url
        self._keys = keys
        self._retention = retention
        self._slots: Slots | None = None
        self._links: dict[Address, RedisListener] = {}
        self._homes: dict[str, Address] = {}
        self._changed = asyncio.Event()
        """Set, and replaced, when channels moved."""
        self._looking: asyncio.Task[None] | None = None
        self._stopped = False

    async def subscribe(self, channels: Collection[str]) -> None:
        """Deliver these channels from now on; waits while their nodes are away."""
        for channel in channels:
            link = await self._link_of(channel, keep=True)
            await link.subscribe([channel])

    def follow(self, standing: UpToDate) -> bool:
        """Deliver from there on; of several channels, each a log, nobody can promise it."""
        channels = list(standing.latest)
        address = self._homes.get(channels[0])
        return len(channels) == 1 and address is not None and self._links[address].follow(standing)

    def unsubscribe(self, channels: Collection[str]) -> None:
        """Deliver these channels no more."""
        for channel in channels:
            address = self._homes.pop(channel, None)
            if address is not None:
                self._links[address].unsubscribe([channel])

    async def replay(self, channels: Sequence[str], after: str | None) -> Replay:
        """Read a page of each channel's log; waits while their nodes are away."""
        if len(channels) == 1:
            return await self._replay_one(channels[0], after)
        positions = None if after is None else decompose(after, channels)
        # An application's own id is found in one log; where a reader was in the others it can't
        # tell, and they are reported as gone.
        each = positions or dict.fromkeys(channels, after)
        pages = await asyncio.gather(*(self._replay_one(c, each[c]) for c in channels))
        return merge_replays(dict(zip(channels, pages, strict=True)))

    def stop(self) -> None:
        """End all listeners, and cancel who waits to hear which node has a channel."""
        self._stopped = True
        if self._looking is not None:
            self._looking.cancel()
        for link in self._links.values():
            link.stop()
        self._changed.set()

    async def _replay_one(self, channel: str, after: str | None) -> Replay:
        while True:
            changed = self._changed
            link = await self._link_of(channel)
            page = self._loop.create_task(link.replay([channel], after))
            moved = self._loop.create_task(changed.wait())
            try:
                await asyncio.wait({page, moved}, return_when=asyncio.FIRST_COMPLETED)
                if page.done():
                    return page.result()
            finally:
                page.cancel()
                moved.cancel()

    async def _link_of(self, channel: str, *, keep: bool = False) -> RedisListener:
        """The listener that has a channel. ``keep`` where it has readers, who leave some day.

        Raises:
            asyncio.CancelledError: The reading side was stopped.
        """
        while not self._stopped:
            address = self._homes.get(channel)
            if address is None and self._slots is not None:
                address = self._slots.home_of(channel)
            if address is not None:
                if keep:
                    self._homes[channel] = address
                return self._link_at(address)
            changed = self._changed
            self._look()
            await changed.wait()
        raise asyncio.CancelledError

    def _link_at(self, address: Address) -> RedisListener:
        link = self._links.get(address)
        if link is None:
            shown = f"{self._url.shown} (node {address[0]}:{address[1]})"
            client = self._url.async_client(_ANSWER_S, address)
            reports = Reports(shown)
            reader = LogReader(client, self._keys, reports=reports, retention=self._retention)
            link = self._links[address] = RedisListener(
                self._loop,
                self._inbox,
                reader,
                reports=reports,
                is_node=True,
                in_trouble=self._look,
            )
        return link

    def _look(self) -> None:
        """Ask who has which slots, unless that is being asked, or nobody wants to know any more."""
        if not self._stopped and (self._looking is None or self._looking.done()):
            self._looking = self._loop.create_task(self._look_and_move())

    async def _look_and_move(self) -> None:
        slots = await self._ask_slots()
        while slots is None:
            await asyncio.sleep(_PAUSE_S)
            slots = await self._ask_slots()
        self._slots = slots
        # From here there is no await: no channel is seen between two homes.
        for channel, old in tuple(self._homes.items()):
            new = slots.home_of(channel)
            if new is not None and new != old:
                self._homes[channel] = new
                followed = self._links[old].give_away(channel)
                if followed is not None:
                    self._link_at(new).take_over(channel, followed)
        for address in set(self._links) - set(self._homes.values()) - set(slots.addresses):
            self._links.pop(address).stop()
        self._changed.set()
        self._changed = asyncio.Event()

    async def _ask_slots(self) -> Slots | None:
        """What some node says, or None where none answers, or not all slots have a node."""
        known = {
            *self._url.addresses,
            *self._links,
            *(self._slots.addresses if self._slots else ()),
        }
        for address in sorted(known):
            client = self._url.async_client(_ASK_S, address)
            try:
                with failures_told():
                    answer = await client.execute_command("CLUSTER SLOTS")
            except FAILURES:
                continue
            finally:
                with contextlib.suppress(*FAILURES), failures_told():
                    await client.aclose()
            return Slots.parse(answer, address[0])
        return None


def merge_replays(pages: Mapping[str, Replay]) -> Replay:
    """The pages of channels that have a log each, as one page of a reader of all of them."""
    positions = {channel: page.start for channel, page in pages.items()}
    start = compose(positions)
    entries = []
    for channel, page in pages.items():
        for entry in page.entries:
            positions[channel] = entry.position
            entries.append(dataclasses.replace(entry, position=compose(positions)))
        positions[channel] = page.position
    return Replay(
        entries=entries,
        gone=frozenset().union(*(page.gone for page in pages.values())),
        sequence=0,
        start=start,
        position=compose(positions),
        more=any(page.more for page in pages.values()),
        ended=frozenset().union(*(page.ended for page in pages.values())),
        places={c: Place(page.sequence, page.position) for c, page in pages.items()},
    )
