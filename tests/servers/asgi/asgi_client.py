"""A request as an ASGI server makes it, on a loop of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from harness.waiting import Deadline

__all__ = ["WITHIN_S", "Message", "Request", "opened", "run", "until"]

WITHIN_S = 10.0
POLL_S = 0.002

Message = dict[str, Any]
Asgi = Callable[..., Awaitable[None]]


class Request:
    """One request, and what the application sends. Belongs to the loop."""

    def __init__(self, path: str, kind: str = "http") -> None:
        self.sent: list[Message] = []
        self.gone = asyncio.Event()
        self.may_send = asyncio.Event()
        self.may_send.set()
        self.error: OSError | None = None
        self.pieces: list[tuple[bytes, bool]] = [(b"", False)]
        """Of the body, each with the word whether more follows."""
        self.scope: dict[str, Any] = {
            "type": kind,
            "method": "GET",
            "path": path,
            "query_string": b"",
            "http_version": "1.1",
            "headers": [],
        }

    async def receive(self) -> Message:
        if self.pieces:
            body, more = self.pieces.pop(0)
            return {"type": "http.request", "body": body, "more_body": more}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        await self.may_send.wait()
        if self.error is not None:
            raise self.error
        self.sent.append(message)

    def start(self, app: Asgi) -> asyncio.Future[None]:
        self.served = asyncio.ensure_future(app(self.scope, self.receive, self.send))
        return self.served

    async def leave(self) -> None:
        """Leave as a client does, and wait until the application is done."""
        self.gone.set()
        await self.served

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)

    @property
    def complete(self) -> bool:
        last = self.sent[-1] if self.sent else {"type": None}
        return last["type"] == "http.response.body" and not last.get("more_body")


async def until(condition: Callable[[], object], what: str) -> None:
    deadline = Deadline(WITHIN_S)
    while not condition():
        if deadline.passed:
            raise AssertionError(f"waited {WITHIN_S:g} s for {what}")
        await asyncio.sleep(POLL_S)


async def opened(app: Asgi, path: str = "/stream") -> Request:
    """A request whose stream is open."""
    request = Request(path)
    request.start(app)
    await until(lambda: request.body.endswith(b":\n"), "an open stream")
    return request


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 2 * WITHIN_S))
