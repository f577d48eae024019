"""One subscribed connection to Redis, from its beginning to its end.

redis-py connects, and speaks the protocol. A session adds what a reader of a log must know: that
the connection is alive, and that everything which was sent so far has been heard. It is never
mended: after its end there is another one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from redis.exceptions import NoPermissionError, RedisError

__all__ = ["FAILURES", "Cut", "Session", "failures_told"]

#: Seconds of silence after which the server is asked whether it is there, and after which the
#: connection counts as broken. A stalled network shows no other sign.
_PING_S = 2.0
_SILENT_S = 5.0
#: Seconds for connecting.
_ANSWER_S = 5.0

#: What a server or a network that fails raises.
FAILURES = (RedisError, OSError, asyncio.TimeoutError)

#: How uvloop says that a connection is closed, as a RuntimeError (uvloop/handles/handle.pyx).
_CLOSED = "the handler is closed"


@contextlib.contextmanager
def failures_told() -> Iterator[None]:
    """Make what a lost connection raises one of `FAILURES`. Every await on redis-py stands in it.

    redis-py hands on what it does not know, and uvloop raises a RuntimeError where a connection was
    reset between the moment when redis-py looked at it and the moment when it wrote.
    """
    try:
        yield
    except RuntimeError as error:
        if _CLOSED not in str(error):
            raise
        raise ConnectionError("the connection was lost") from error


class Cut(ConnectionError):
    """A session was ended on purpose, so that another one begins."""


class Session:
    """A connection and the tasks that serve it. Everything here belongs to the loop.

    Args:
        loop: Where it runs.
        connection: redis-py's, not connected yet. The session ends it.
        take: Called with each answer that tells of a channel.
        refused: Called where the server refuses a command, in the order of the commands.

    Raises:
        ConnectionError: From what sends: the session ended.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        connection: Any,
        *,
        take: Callable[[list[Any]], object],
        refused: Callable[[NoPermissionError], object],
    ) -> None:
        self._loop = loop
        self._connection = connection
        self._take = take
        self._refused = refused
        self._open = False
        self._was_cut = False
        self._heard_s = 0.0
        self._pings = 0
        self._pongs: dict[bytes, asyncio.Future[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def connect(self) -> None:
        """Connect, within five seconds."""
        with failures_told():
            await asyncio.wait_for(self._connection.connect(), _ANSWER_S)
        self._heard_s = self._loop.time()
        self._open = True

    async def run(self, beside: Coroutine[Any, Any, None]) -> None:
        """Take what comes until the connection breaks or ``beside`` fails, and raise why.

        Raises:
            Cut: It was `cut`.
        """
        tasks = [self.keep(work) for work in (self._read(), self._watch(), beside)]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        if self._was_cut:
            raise Cut
        for task in done:
            task.result()

    async def close(self) -> None:
        """End it: nobody waits for an answer any more, and its tasks are gone."""
        self._open = False
        for heard in self._pongs.values():
            if not heard.done():
                heard.set_exception(ConnectionError("the session ended"))
        await self._disconnect()
        tasks = set(self._tasks)
        while tasks:
            for task in tasks:
                task.cancel()
            # Again, where one forgot that it was cancelled.
            _, tasks = await asyncio.wait(tasks, timeout=_PING_S)

    def cut(self) -> None:
        """Break the connection: `run` ends."""
        self._was_cut = True
        self.keep(self._disconnect())

    def keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run something until the session ends; the loop itself would forget it."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def send(self, *command: str) -> None:
        """Send a command; its answer comes to ``take``."""
        self.check()
        with failures_told():
            await self._connection.send_command(*command)

    async def try_to_send(self, *command: str) -> None:
        """Send a command whose failure is `run`'s to notice."""
        with contextlib.suppress(*FAILURES):
            await self.send(*command)

    async def heard_all(self) -> None:
        """Wait until everything that the server has sent so far was given to ``take``."""
        self._pings += 1
        token = str(self._pings)
        heard: asyncio.Future[None] = self._loop.create_future()
        self._pongs[token.encode()] = heard
        try:
            await self.send("PING", token)
            await heard
        finally:
            self._pongs.pop(token.encode(), None)
        self.check()

    async def _disconnect(self) -> None:
        with contextlib.suppress(*FAILURES), failures_told():
            await self._connection.disconnect(nowait=True)

    def check(self) -> None:
        """Raise `ConnectionError` where the session ended."""
        # redis-py would connect anew, a connection that nobody reads.
        if not self._open or not self._connection.is_connected:
            raise ConnectionError("the session ended")

    async def _read(self) -> None:
        while True:
            try:
                with failures_told():
                    answer = await self._connection.read_response(disable_decoding=True)
            except NoPermissionError as error:
                self._refused(error)
                continue
            finally:
                self._heard_s = self._loop.time()
            if not isinstance(answer, list):
                self._pong(answer)  # to a connection that is subscribed to nothing
            elif answer[0] == b"pong":
                self._pong(answer[1])
            else:
                self._take(answer)

    def _pong(self, token: bytes) -> None:
        heard = self._pongs.get(token)
        if heard is not None and not heard.done():
            heard.set_result(None)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_PING_S / 2)
            silent_s = self._loop.time() - self._heard_s
            if silent_s > _SILENT_S:
                raise asyncio.TimeoutError(f"it has been silent for {silent_s:.0f} s")
            if silent_s > _PING_S:
                # Not awaited: where the network takes nothing more, it would wait for ever.
                self.keep(self.try_to_send("PING"))
