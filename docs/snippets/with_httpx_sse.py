import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import httpx_sse


def read(url: str) -> Iterator[Any]:
    """Every event's data, as JSON, over as many connections as it takes."""
    last_id, wait_s = "", 3.0
    patience = httpx.Timeout(5, read=60)  # four heartbeats
    with httpx.Client(timeout=patience) as client:
        while True:
            # An empty one asks for the position at once: a cut before the first event is safe.
            where = httpx.URL(url).copy_merge_params({"lastEventId": last_id})
            try:
                with httpx_sse.connect_sse(client, "GET", where) as source:
                    if source.response.status_code == httpx.codes.NO_CONTENT:
                        return  # every channel has ended
                    source.response.raise_for_status()
                    for event in source.iter_sse():
                        last_id = event.id or last_id
                        wait_s = wait_s if event.retry is None else event.retry / 1000
                        if event.event == "stream-reset":
                            raise LookupError(f"something is gone: {event.data}")
                        if event.data and event.event != "stream-end":
                            yield json.loads(event.data)
            except httpx.TransportError:
                pass  # cut off, or nobody listens
            time.sleep(wait_s)
