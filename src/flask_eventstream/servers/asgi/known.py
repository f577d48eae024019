"""What ASGI servers show of their connections beside the protocol.

What is looked for are attributes, never versions; where they are not found, only what is said there
is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, MutableMapping
from typing import Any

__all__ = ["dig", "find_backlog", "find_break_off", "find_transport"]

#: RFC 9113, section 7: the stream is no longer needed.
_HTTP2_CANCEL = 0x8


def find_transport(receive: Any, send: Any) -> Any:
    """What a server writes to for this client, or ``None`` where it does not show it."""
    uvicorn = dig(send, "__self__", "transport")
    gunicorn = dig(receive, "__self__", "protocol", "transport")
    # HTTPStream of H11Protocol or H2Protocol of TCPServer.
    up = ("__self__", "send", "__self__", "send", "__self__")
    return uvicorn or gunicorn or dig(send, *up, "writer", "transport")


def find_break_off(
    scope: MutableMapping[str, Any], transport: Any, send: Any
) -> Callable[[], object] | None:
    """A way to cut the stream of a client that takes nothing, and nothing else on its connection.

    Without one the server is left with a response that its application did not complete.
    """
    if not scope["http_version"].startswith("1"):
        return _reset(dig(send, "__self__"))
    found: Callable[[], object] | None = dig(transport, "abort")
    return found


def find_backlog(scope: MutableMapping[str, Any], send: Any) -> Callable[[], int] | None:
    """What waits in hypercorn for one stream of HTTP/2.

    Its ``send`` shall wait for a slow client there, but does not (0.18: a window of size zero wakes
    it up), and would take everything that is ever published.
    """
    stream = dig(send, "__self__")
    buffers = dig(stream, "send", "__self__", "stream_buffers")
    if buffers is None or scope["http_version"].startswith("1"):
        return None
    return lambda: len(dig(buffers.get(stream.stream_id), "buffer") or b"")


def _reset(stream: Any) -> Callable[[], object] | None:
    """Reset a stream of HTTP/2 in hypercorn, which would otherwise never tell the client."""
    protocol = dig(stream, "send", "__self__")
    reset, flush = dig(protocol, "connection", "reset_stream"), dig(protocol, "_flush")
    if reset is None or flush is None:
        return None

    async def reset_now() -> None:
        with contextlib.suppress(Exception):  # the client may have closed it meanwhile
            reset(stream.stream_id, error_code=_HTTP2_CANCEL)
            await flush()

    loop = asyncio.get_running_loop()
    return lambda: loop.create_task(reset_now())


def dig(thing: Any, *names: str) -> Any:
    """An attribute of an attribute …, or ``None`` where there is none."""
    for name in names:
        thing = getattr(thing, name, None)
    return thing
