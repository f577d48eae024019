"""Links on real servers: whatever holds the stream, it ends when the link does."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from harness.streams import Reader, get
from harness.waiting import wait_until
from live.site import APPS, run_site

WAYS = {
    "handed off": ("gunicorn-sync", "linking:app", {}),
    "held": ("gunicorn-gthread", "linking:app", {"SSE_HANDOFF": "off"}),
    "ASGI": ("uvicorn", "linking:asgi", {}),
}
VALID_S = 3


@pytest.mark.parametrize("way", WAYS)
def test_a_link_ends_its_stream(way: str, tmp_path: Path) -> None:
    """An open stream is told and ends within a second of the link's time; later it is 204."""
    kind, app, settings = WAYS[way]
    with run_site(kind, tmp_path, app=app, apps=APPS, options=(), env={}, **settings) as site:
        made_at = time.monotonic()
        address = site.url + get(f"{site.url}/link/mine/{VALID_S}").text
        site.publisher.publish("between", channel="mine")
        with Reader(address) as reader:
            assert reader.next_event()["data"] == "between"
            last = reader.next_event()
            lasted_s = time.monotonic() - made_at

            assert (last["type"], last["data"]) == ("stream-expired", '{"channels": ["mine"]}')
            assert VALID_S - 0.1 < lasted_s < VALID_S + 2  # a second, and one for a busy machine
        wait_until(lambda: site.stats()["ended"] == {"expired": 1}, what="the end")

        assert get(address).status == 204
