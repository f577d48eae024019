"""`sse.response`: the application's own iterable as a stream."""

from __future__ import annotations

from harness.streams import Reader
from live.site import Site

ONE_TO_SIX = list("123456")


def next_six(reader: Reader) -> list[str]:
    return [reader.next_event()["data"] for _ in range(6)]


def test_two_clients_at_once(site: Site) -> None:
    """Two clients of a view that counts for ever each get 1 to 6, though one worker runs it."""
    with Reader(f"{site.url}/numbers") as one, Reader(f"{site.url}/numbers") as other:
        assert next_six(one) == ONE_TO_SIX
        assert next_six(other) == ONE_TO_SIX
        assert next_six(one) == ONE_TO_SIX


def test_requests_meanwhile(site: Site) -> None:
    """Ordinary requests are answered while views count for ever."""
    with Reader(f"{site.url}/numbers") as one, Reader(f"{site.url}/numbers") as other:
        for reader in (one, other):
            assert reader.next_event()["data"] == "1"
            assert site.ping() == site.worker
