"""A server that means harm, in each way, and the command that looks at it."""

from __future__ import annotations

import gzip
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from flask_eventstream.brokers import broker_from_url
from flask_eventstream.doctor.report import render
from flask_eventstream.log.entries import Over
from harness.waiting import wait_until
from live.doctor.conftest import APPS, Shop, visit

# What a visit to a server that answers at once may take, on a busy machine: it waits for what does
# not come, and publishes much to see whether a buffer overflows.
ENOUGH_S = 60

# For what does not come.
PATIENCE_S = 0.5

# Of address space. Python, Flask and their libraries have half of it.
MEMORY_BYTES = 1 << 30

Answer = Callable[[socket.socket, bytes], object]

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
OPENING = b"retry: 3000\n:\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
BOMB = gzip.compress(bytes(16 << 20), mtime=0)


def says(head: bytes, body: bytes = b"") -> Answer:
    """Says it, and stays."""

    def answer(there: socket.socket, request: bytes) -> None:
        there.sendall(head if request.startswith(b"HEAD") else head + body)
        while there.recv(4096):
            pass

    return answer


def repeats(head: bytes, body: bytes) -> Answer:
    """Says it, and the body as often as anybody takes it."""

    def answer(there: socket.socket, request: bytes) -> None:
        there.sendall(head)
        while not request.startswith(b"HEAD"):
            there.sendall(body)

    return answer


def drips(text: bytes) -> Answer:
    """Says it one byte after the other, and then again."""

    def answer(there: socket.socket, _request: bytes) -> None:
        while True:
            for byte in text:
                there.sendall(bytes([byte]))
                time.sleep(0.2)  # that is its malice

    return answer


def tells(**said: Any) -> bytes:
    return b"SSE-Doctor: " + json.dumps(said).encode() + b"\r\n"


LIE = "x\r\n\r\n  ok      all is well\r\n\r\nProblems: 0. Advice: 0.\x1b[2J"
ANSWERS: dict[str, Answer] = {
    "a chunk of -5": says(CHUNKED, b"-5\r\n" + OPENING),
    "a chunk of 0x10": says(CHUNKED, b"0x10\r\n" + OPENING),
    "a chunk of 1_0": says(CHUNKED, b"1_0\r\n" + OPENING),
    "a chunk without end": repeats(CHUNKED + b"fffffffffffffff\r\n", bytes(65_536)),
    "chunks without end": repeats(CHUNKED, b"1\r\nx\r\n" * 10_000),
    "bytes without end": repeats(OK + b"\r\n", bytes(65_536)),
    "comments without end": repeats(OK + b"\r\n" + OPENING, b": x\n" * 10_000),
    "bombs without end": repeats(OK + b"Content-Encoding: gzip\r\n\r\n", BOMB),
    "a head without end": repeats(OK, b"X-Y: z\r\n" * 1000),
    "early hints without end": repeats(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 1000),
    "a byte now and then": drips(OK),
    "comments now and then": drips(b":\n"),
    "a heartbeat in an hour": says(OK + tells(pid=1, heartbeat_s=3600) + b"\r\n", OPENING),
    "a heartbeat in eternity": says(OK + tells(heartbeat_s=1e308) + b"\r\n", OPENING),
    "a stack of brackets": says(OK + b"SSE-Doctor: " + b"[" * 60_000 + b"\r\n\r\n", OPENING),
    "lies": says(OK + tells(server=LIE, held=LIE, broker=LIE, threads=1) + b"\r\n", OPENING),
    "another language": says(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    "nothing": lambda there, _request: there.close(),
    "a trap to copy": says(
        b"HTTP/1.1 302 Found\r\nLocation: https://x.example/';reboot;'$(ls)\r\n"
        b"Content-Length: 0\r\n\r\n"
    ),
}


@contextmanager
def answering(answer: Answer) -> Iterator[str]:
    """A server that answers so; gives its address."""

    def serve() -> None:
        while True:
            try:
                there, _ = listening.accept()
            except OSError:
                return
            stack.callback(there.close)
            threading.Thread(target=handle, args=(there,), daemon=True).start()

    def handle(there: socket.socket) -> None:
        try:
            answer(there, there.recv(65_536))
        except OSError:
            there.close()  # the visitor left

    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        # What wakes a thread that waits in accept(); close alone does not.
        stack.callback(lambda: listening.shutdown(socket.SHUT_RDWR))
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/stream"


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "flask", "--app", "shop", "sse", "doctor", *args]


def environment(folder: Path, **more: str) -> dict[str, str]:
    broker = f"sqlite:///{folder / 'events.db'}"
    said = {"FLASK_SSE_BROKER_URL": broker, "FLASK_SSE_HEARTBEAT_S": "1", **more}
    return {**os.environ, **said}


def limit_memory() -> None:
    import resource  # noqa: PLC0415  in the child

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))


def check(report: str) -> None:
    """Nobody but the doctor speaks in its report."""
    lines = report.splitlines()

    assert "  ok      all is well" not in lines
    assert "\x1b" not in report
    assert sum(line.startswith("Problems: ") for line in lines) <= 1


@pytest.mark.parametrize("name", ANSWERS)
def test_a_server_that_means_harm(name: str, tmp_path: Path) -> None:
    """A server of any kind has a finding, soon, and says nothing in the doctor's place."""
    began_s = time.monotonic()
    with answering(ANSWERS[name]) as url:
        found = visit(
            url,
            broker_url=f"sqlite:///{tmp_path / 'events.db'}",
            patience_s=PATIENCE_S,
            answer_s=PATIENCE_S,
            SSE_HEARTBEAT_S=1,
        )

    assert time.monotonic() - began_s < ENOUGH_S
    assert found.problems
    check("\n".join(render(remark) for remark in found.remarks))


@pytest.mark.parametrize("name", ["bombs without end", "a head without end", "a trap to copy"])
def test_the_command_withstands_it(name: str, tmp_path: Path) -> None:
    """The command ends soon, in little memory and without a traceback, and its exit code is 1."""
    with answering(ANSWERS[name]) as url:
        done = subprocess.run(
            command(url),
            cwd=APPS,
            env=environment(tmp_path),
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=ENOUGH_S,
            check=False,
            preexec_fn=limit_memory,
        )

    assert done.returncode == 1, done.stdout + done.stderr
    assert "Error" not in done.stderr, done.stderr
    check(done.stdout)


def test_where_a_trap_leads_is_quoted(tmp_path: Path) -> None:
    """An address that a server sends is one word in the command that is there to be copied."""
    with answering(ANSWERS["a trap to copy"]) as url:
        found = visit(url, broker_url=f"sqlite:///{tmp_path / 'events.db'}")
    first, *_ = found.only.mend.splitlines()

    assert shlex.split(first)[:3] == ["flask", "sse", "doctor"]
    assert shlex.split(first)[3:] == ["https://x.example/';reboot;'$(ls)"]


# ---- a doctor that is killed


def left_open(folder: Path, ticket: str) -> bool:
    broker = broker_from_url(f"sqlite:///{folder / 'events.db'}", retention=None, timeout_s=5)
    try:
        return not isinstance(broker.arrive([ticket], None), Over)
    finally:
        broker.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_who_is_interrupted_cleans_up(number: signal.Signals, tmp_path: Path) -> None:
    """Ctrl-C, a closed terminal and an impatient deployment leave no ended channel behind."""
    requests: list[bytes] = []

    def answer(there: socket.socket, request: bytes) -> None:
        requests.append(request)
        while there.recv(4096):
            pass

    with answering(answer) as url:
        process = subprocess.Popen(
            ["env", f"--default-signal={number.name[3:]}", *command(url)],
            cwd=APPS,
            env=environment(tmp_path),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: requests, within_s=30, what="the doctor's request")
            process.send_signal(number)
            process.wait(30)
        finally:
            process.kill()
            process.wait(30)
    (line,) = [each for each in requests[0].split(b"\r\n") if each.lower().startswith(b"sse-doc")]
    ticket = line.decode().partition(": ")[2].partition(".")[0]

    assert left_open(tmp_path, ticket)


def test_a_good_server_is_well(open_shop: Callable[..., Shop]) -> None:
    """The same command has nothing to say of a server that means well."""
    assert open_shop("gunicorn-sync").visit().problems == []
