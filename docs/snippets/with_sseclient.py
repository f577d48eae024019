from collections.abc import Iterator

import requests
import sseclient


def read(url: str) -> Iterator[str]:
    """The data of each event, up to the end of this one connection."""
    headers = {"Accept": "text/event-stream"}
    with requests.get(url, stream=True, headers=headers, timeout=60) as response:
        response.raise_for_status()
        for event in sseclient.SSEClient(response).events():
            yield event.data
