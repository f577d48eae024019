"""The application of the benchmark on sse-starlette: a queue per stream, as its examples do it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator

from made import burst, private
from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

queues: defaultdict[str, set[asyncio.Queue[str]]] = defaultdict(set)


async def events(channel: str, queue: asyncio.Queue[str]) -> AsyncIterator[dict[str, str]]:
    """What one stream gets, until its client leaves."""
    try:
        while True:
            yield {"data": await queue.get()}
    finally:
        queues[channel].discard(queue)


async def stream(request: Request) -> Response:
    """Open a stream."""
    channel = request.query_params["channel"]
    queue: asyncio.Queue[str] = asyncio.Queue()
    queues[channel].add(queue)
    return EventSourceResponse(events(channel, queue))


def publish(data: str, channel: str) -> None:
    """Give an event to each stream's queue."""
    for queue in queues[channel]:
        queue.put_nowait(data)


async def ping(_request: Request) -> Response:
    """The ordinary request of this application."""
    return PlainTextResponse("pong")


async def publish_one(request: Request) -> Response:
    """Publish the body."""
    publish((await request.body()).decode(), request.query_params["channel"])
    return Response(status_code=204)


async def publish_burst(request: Request) -> Response:
    """Publish many events, one by one."""
    burst(request.query_params, publish)
    return Response(status_code=204)


async def publish_private(request: Request) -> Response:
    """Publish one event to each of many channels."""
    private(request.query_params, publish)
    return Response(status_code=204)


app = Starlette(
    routes=[
        Route("/stream", stream),
        Route("/ping", ping),
        Route("/publish", publish_one, methods=["POST"]),
        Route("/burst", publish_burst, methods=["POST"]),
        Route("/private", publish_private, methods=["POST"]),
    ]
)
