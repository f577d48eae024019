"""A client that comes back with its last event ID, as an EventSource does."""

from __future__ import annotations

import contextlib
from types import TracebackType

from harness.streams import Reader
from harness.waiting import wait_until

__all__ = ["Returning"]


class Returning:
    """One page's stream, over as many connections as it takes. Belongs to the test's thread.

    It does nothing by itself: what it is told to wait for makes it read, and come back.

    Attributes:
        data: the data of every event so far, in order.
        returns: how often it came back.
    """

    def __init__(self, url: str) -> None:
        self.data: list[str] = []
        self.returns = 0
        self._url = url
        # An empty lastEventId asks for the position at once, so that a client that was cut off
        # before its first event misses nothing either.
        self._reader = Reader(f"{url}&lastEventId=")
        self._last_event_id = ""

    def __enter__(self) -> Returning:
        wait_until(lambda: self._reader.last_event_id, what="the position of a new stream")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._reader.close()

    def wait_for(self, data: str, within_s: float = 20) -> None:
        """Read on until an event with this data was there, coming back wherever it is cut."""
        wait_until(lambda: self._has_read_to(data), within_s=within_s, what=f"event {data!r}")

    def wait_returned(self, times: int, within_s: float = 20) -> None:
        """Read on until it has come back so often, and has had ten events since."""
        wait_until(
            lambda: self._read().returns >= times,
            within_s=within_s,
            what=f"a client that came back {times} times",
        )
        enough = len(self.data) + 10
        wait_until(
            lambda: len(self._read().data) >= enough,
            within_s=within_s,
            what="events for a client that came back",
        )

    def _has_read_to(self, data: str) -> bool:
        return data in self._read().data

    def _read(self) -> Returning:
        reader = self._reader
        self.data += [event["data"] for event in reader.take_events()]
        if reader.ended:
            self.data += [event["data"] for event in reader.take_events()]
            self._last_event_id = reader.last_event_id or self._last_event_id
            # Refused while nobody listens, or cut off before the head: the next look tries again.
            with contextlib.suppress(OSError, AssertionError):
                self._reader = Reader(self._url, headers={"Last-Event-ID": self._last_event_id})
                reader.close()
                self.returns += 1
        return self
