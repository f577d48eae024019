"""A real Redis (or Valkey) server of the test's own, and a network in front of it that can fail.

It is Valkey where a ``valkey-server`` is on the PATH, else ``redis-server``. The server runs in
the foreground in a folder that goes with it, on a loopback port that it keeps when it is started
again. `Proxy` stands between a client and the server as a network does: it can be cut, stalled and
slow, and it counts connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from .certificate import Certificate
from .ports import HOST, free_port
from .programs import program
from .waiting import wait_until

__all__ = ["Proxy", "RedisServer", "cli_program", "run_proxy", "run_redis"]

READY_WITHIN_S = 20.0
STOP_WITHIN_S = 20.0
# Between the look for a free port and the start another program may take it.
STARTS = 5

READ_BYTES = 65_536
# A slow network gives this many pieces a second; each is as large as the rate allows.
PIECES_PER_S = 50


class RedisServer:
    """One server. Made by `run_redis`; belongs to the test's thread.

    Attributes:
        port: where it listens on 127.0.0.1, the same after each start.
    """

    def __init__(
        self,
        folder: Path,
        options: Sequence[str],
        *,
        password: str | None,
        settings: Path | None = None,
        certificate: Certificate | None = None,
    ) -> None:
        self.port = free_port()
        self._certificate = certificate
        self._settings = [] if settings is None else [str(settings)]
        self._folder = folder
        self._options = options
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The address as an application would name it."""
        return self.url_at(self.port)

    @property
    def pid(self) -> int:
        """The running process."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        """True between `start` and `stop` or `kill`."""
        return self._process is not None

    @property
    def admin(self) -> redis.Redis:
        """A client for the test itself, with answers as text: `with server.admin as client`."""
        return redis.Redis(
            host=HOST,
            port=self.port,
            password=self._password,
            decode_responses=True,
            socket_timeout=10,
            client_name="test",
            ssl=self._certificate is not None,
            ssl_ca_certs=str(self._certificate.certificate) if self._certificate else None,
        )

    def url_at(self, port: int) -> str:
        """The address of this server where a proxy listens for it."""
        secret = f":{self._password}@" if self._password else ""
        return f"redis://{secret}{HOST}:{port}/0"

    def ask(self, *command: str | float) -> Any:
        """One command, and its answer."""
        with self.admin as client:
            return client.execute_command(*command)

    def info(self, section: str) -> dict[str, Any]:
        """What ``INFO section`` says."""
        with self.admin as client:
            return dict(client.info(section))

    def clients(self, kind: str = "normal") -> list[dict[str, str]]:
        """``CLIENT LIST TYPE kind``, without the test's own."""
        with self.admin as client:
            listed = client.client_list(_type=kind)
        return [one for one in listed if one["name"] != "test"]

    def log(self) -> str:
        """What the server has written so far, over all its starts."""
        path = self._folder / "log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start it, and wait until it has loaded what its folder holds."""
        assert self._process is None, "the server is running"
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    _server_program(),
                    *self._settings,
                    *self._port_options(),
                    *("--bind", HOST, "--dir", str(self._folder)),
                    *("--save", "", "--daemonize", "no", "--repl-diskless-sync-delay", "0"),
                    *self._options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_until(self._answers, within_s=READY_WITHIN_S, what="an answer to PING")
        except AssertionError as error:
            raise AssertionError(f"{error}\nits log:\n{self.log()}") from error

    def stop(self) -> None:
        """End it in order: SIGTERM, after which it writes what it must. Safe to repeat."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL. Safe to repeat."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start on the same port, with what it wrote."""
        self.stop()
        self.start()

    def empty(self) -> None:
        """Remove what a stopped server wrote, so that it starts with nothing."""
        assert self._process is None, "the server is running"
        shutil.rmtree(self._folder / "appendonlydir", ignore_errors=True)
        for name in ("dump.rdb", "appendonly.aof"):
            (self._folder / name).unlink(missing_ok=True)

    def stall(self) -> None:
        """SIGSTOP: its port still takes connections, and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def _port_options(self) -> list[str]:
        if self._certificate is None:
            return ["--port", str(self.port)]
        certificate, key = map(str, self._certificate)
        return [
            *("--port", "0", "--tls-port", str(self.port), "--tls-auth-clients", "no"),
            *("--tls-cert-file", certificate, "--tls-key-file", key),
            *("--tls-ca-cert-file", certificate, "--tls-replication", "yes"),
        ]

    def _end(self, number: int) -> None:
        if self._process is None:
            return
        process, self._process = self._process, None
        process.send_signal(number)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_WITHIN_S)

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            self._process = None
            raise AssertionError("redis-server ended")
        try:
            self.ask("PING")
        except redis.RedisError:
            return False
        return True


def _server_program() -> str:
    # Debian's later releases have Valkey in its place.
    return shutil.which("valkey-server") or program("redis-server")


def cli_program() -> str:
    """Give the path of the server's own command line client."""
    return shutil.which("valkey-cli") or program("redis-cli")


@contextmanager
def run_redis(
    *options: str,
    aof: bool = False,
    maxmemory: str | None = None,
    replica_of: RedisServer | None = None,
    password: str | None = None,
    certificate: Certificate | None = None,
) -> Iterator[RedisServer]:
    """Run a server for the length of a `with` block.

    Args:
        options: further command line arguments.
        aof: whether each write goes to a file, before its answer unless the disk is busy. Without
            it the server has no persistence at all.
        maxmemory: its bound, as "20mb"; nothing is evicted.
        replica_of: the server to replicate; returned when the link is up.
        password: what clients must know.
        certificate: what it shows; it then speaks TLS, and nothing else.
    """
    given = [*options, "--appendonly", "yes" if aof else "no"]
    if maxmemory is not None:
        given += ["--maxmemory", maxmemory, "--maxmemory-policy", "noeviction"]
    if replica_of is not None:
        given += ["--replicaof", HOST, str(replica_of.port)]
    if password is not None:
        given += ["--requirepass", password]
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        server = _started(Path(folder), given, password, certificate)
        try:
            if replica_of is not None:
                wait_until(
                    lambda: server.info("replication")["master_link_status"] == "up",
                    within_s=READY_WITHIN_S,
                    what="the link to the primary",
                )
            yield server
        finally:
            server.kill()


def _started(
    folder: Path, options: Sequence[str], password: str | None, certificate: Certificate | None
) -> RedisServer:
    for _ in range(STARTS):
        server = RedisServer(folder, options, password=password, certificate=certificate)
        try:
            server.start()
        except AssertionError:
            server.kill()
            if "Address already in use" not in server.log():
                raise
        else:
            return server
    raise AssertionError(f"no free port in {STARTS} tries")


class Proxy:
    """A network of the test's own: forwards TCP connections to a port, as well as it is told.

    Its loop runs on a thread of its own; its methods belong to the test's threads. Made by
    `run_proxy`.

    Attributes:
        port: where it listens on 127.0.0.1.
        accepted: connections so far.
        turns: how often a client spoke after it had been answered: round trips, at least.
    """

    def __init__(self, target: int, rewrite: Callable[[bytes], bytes] | None) -> None:
        self.port = 0
        self.accepted = 0
        self.turns = 0
        self._answered = False
        self._target = target
        self._rewrite = rewrite
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._flows = asyncio.Event()
        self._flows.set()
        self._is_cut = False
        self._bytes_per_s: float | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    def cut(self) -> None:
        """Break all connections, and each new one at once."""
        self._call(self._cut)

    def stall(self) -> None:
        """Connections stay, and new ones are accepted, but no byte comes through any more."""
        self._call(self._flows.clear)

    def slow(self, bytes_per_s: float) -> None:
        """Let through only so much, on each connection and in each direction."""
        self._call(setattr, self, "_bytes_per_s", bytes_per_s)

    def mend(self) -> None:
        """Work as a network should. What was held back by a stall arrives now."""
        self._call(self._mend)

    def start(self) -> None:
        self._thread.start()
        self._run(self._listen())

    def close(self) -> None:
        """End all connections and the thread."""
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        async def call() -> None:
            function(*arguments)

        self._run(call())

    # ---- on the loop

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        self._server.close()
        self._cut()
        self._flows.set()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    def _cut(self) -> None:
        self._is_cut = True
        for writer in self._writers:
            writer.transport.abort()
        for pump in self._pumps:
            pump.cancel()

    def _mend(self) -> None:
        self._is_cut = False
        self._bytes_per_s = None
        self._flows.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        if self._is_cut:
            writer.transport.abort()
            return
        try:
            there, back = await asyncio.open_connection(HOST, self._target)
        except OSError:
            writer.transport.abort()  # the server is away
            return
        self._writers |= {writer, back}
        pumps = {
            self._loop.create_task(self._pump(reader, back, answers=False)),
            self._loop.create_task(self._pump(there, writer, answers=True)),
        }
        self._pumps |= pumps
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for one in (writer, back):
            one.transport.abort()
        self._writers -= {writer, back}
        self._pumps -= pumps

    def _count_turn(self, *, answers: bool) -> None:
        self.turns += self._answered and not answers
        self._answered = answers

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, answers: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while True:
                await self._flows.wait()
                limit = self._bytes_per_s
                received = await source.read(
                    READ_BYTES if limit is None else max(1, int(limit / PIECES_PER_S))
                )
                await self._flows.wait()
                if not received:
                    return
                self._count_turn(answers=answers)
                sink.write(self._rewrite(received) if answers and self._rewrite else received)
                await sink.drain()
                if limit is not None:
                    await asyncio.sleep(len(received) / limit)


@contextmanager
def run_proxy(target: int, *, rewrite: Callable[[bytes], bytes] | None = None) -> Iterator[Proxy]:
    """Run a proxy before a port for the length of a `with` block.

    Args:
        target: the server's port.
        rewrite: changes what the server says, one received piece at a time.
    """
    proxy = Proxy(target, rewrite)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.close()
