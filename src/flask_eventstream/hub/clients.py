"""Which streams are those of a client: of a page that named itself, so that it may be left out."""

from __future__ import annotations

from collections.abc import Collection

from flask_eventstream.hub.groups import Group
from flask_eventstream.hub.stream import Stream

__all__ = ["Clients"]


class Clients:
    """The streams of one hub whose page has a name. Belongs to the hub's loop.

    Events that leave a client out look here, and no other event pays for it.
    """

    def __init__(self) -> None:
        self._streams: dict[str, dict[Stream, None]] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def join(self, stream: Stream) -> None:
        """Take a stream in, if its page has a name."""
        name = stream.reader.client_id
        if name is not None:
            self._streams.setdefault(name, {})[stream] = None

    def leave(self, stream: Stream) -> None:
        """Forget a stream."""
        name = stream.reader.client_id
        if name is not None:
            streams = self._streams[name]
            del streams[stream]
            if not streams:
                del self._streams[name]

    def within(self, group: Group, client_id: str) -> Collection[Stream]:
        """A client's streams among those of a group."""
        streams = self._streams.get(client_id, ())
        return {stream for stream in streams if stream in group.streams}
