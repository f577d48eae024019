"""The harness itself: parsers against their specifications, servers and clients against each other.

None of this needs the package: a fault here is the harness's own.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import servers
from harness.event_stream import Dispatched, EventStreamParser
from harness.http_response import HttpResponse
from harness.ports import HOST, accepts, free_port
from harness.programs import program
from harness.servers import KINDS, Server
from harness.streams import Crowd, Reader, get
from harness.waiting import Deadline, wait_until

pytestmark = pytest.mark.real

Serve = Callable[..., Server]


# --- waiting


def test_wait_gives_the_first_truthy_value() -> None:
    """wait_until returns what the condition returned."""
    values = iter([0, "", "here"])

    assert wait_until(lambda: next(values), what="a value") == "here"


def test_wait_names_what_did_not_come() -> None:
    """A wait that fails says for what it waited and what it saw last."""
    with pytest.raises(AssertionError, match=r"waited 0 s for the moon; the last value was \[\]"):
        wait_until(list, within_s=0, what="the moon")


def test_deadline_is_never_negative() -> None:
    """A deadline that has passed leaves zero seconds, which no socket call takes amiss."""
    deadline = Deadline(-1)

    assert deadline.left_s == 0
    assert deadline.passed


# --- ports


def test_a_free_port_is_kept_for_its_server() -> None:
    """A port that was given away can be taken by a server, and by nobody who merely finds it."""
    port = free_port()
    with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
        stranger.bind((HOST, port))

    for _ in range(2):  # a server, and the one that comes after it
        with socket.create_server((HOST, port)):
            assert accepts(port)
        assert not accepts(port)


# --- the event stream parser: WHATWG HTML 9.2.6


def seen(type: str = "message", data: str = "", id: str = "", retry: int | None = None) -> Any:
    return Dispatched(type=type, data=data, id=id, retry=retry)


STREAMS: dict[str, tuple[bytes, list[Any]]] = {
    # The first five are the examples of section 9.2.6.
    "stock ticker": (
        b"data: YHOO\ndata: +2\ndata: 10\n\n",
        [seen(data="YHOO\n+2\n10")],
    ),
    "four blocks": (
        (
            b": test stream\n\ndata: first event\nid: 1\n\n"
            b"data:second event\nid\n\ndata:  third event\n\n"
        ),
        [
            seen(data="first event", id="1"),
            seen(data="second event"),
            seen(data=" third event"),
        ],
    ),
    "empty data": (b"data\n\ndata\ndata\n\ndata:", [seen(data=""), seen(data="\n")]),
    "one space is dropped": (
        b"data:test\n\ndata: test\n\n",
        [seen(data="test"), seen(data="test")],
    ),
    "typed": (
        b"event: add\ndata: 73857293\n\nevent: remove\ndata: 2153\n\n",
        [seen("add", "73857293"), seen("remove", "2153")],
    ),
    "no data, no event": (b"event: a\nid: 5\n\ndata: x\n\n", [seen(data="x", id="5")]),
    "type does not persist": (b"event: a\n\ndata: x\n\n", [seen(data="x")]),
    "id persists": (
        b"id: 7\ndata: a\n\ndata: b\n\n",
        [seen(data="a", id="7"), seen(data="b", id="7")],
    ),
    "id with NUL is ignored": (b"id: 1\nid: 2\0\ndata: a\n\n", [seen(data="a", id="1")]),
    "empty type is message": (b"event:\ndata: a\n\n", [seen(data="a")]),
    "retry": (
        b"retry: 3000\n:\ndata: a\n\ndata: b\n\n",
        [seen(data="a", retry=3000), seen(data="b", retry=3000)],
    ),
    "retry takes digits only": (
        "retry: -5\nretry: 1_0\nretry: ٣\nretry: 5 \nretry\ndata: a\n\n".encode(),
        [seen(data="a")],
    ),
    "carriage returns": (b"data: a\rdata: b\r\rdata: c\r\r", [seen(data="a\nb"), seen(data="c")]),
    "pairs": (b"data: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n", [seen(data="a\nb"), seen(data="c")]),
    "mixed line ends": (
        b"data: a\n\rdata: b\r\n\ndata: c\r\n\r",
        [seen(data="a"), seen(data="b"), seen(data="c")],
    ),
    "other separators are text": (
        "data: a\u2028b\u0085c\vd\fe\x1ef\n\n".encode(),
        [seen(data="a\u2028b\u0085c\vd\fe\x1ef")],
    ),
    "byte order mark": (b"\xef\xbb\xbfdata: a\n\n", [seen(data="a")]),
    "only the first mark": (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\ndata: b\n\n", [seen(data="b")]),
    "mark, then a line feed": (b"\xef\xbb\xbf\ndata: a\n\n", [seen(data="a")]),
    "unicode": ("data: zażółć 🙂\n\n".encode(), [seen(data="zażółć 🙂")]),
    "bad bytes are replaced": (b"data: a\xffb\xe2\x82\n\n", [seen(data="a\ufffdb\ufffd")]),
    "unknown fields": (b"Data: a\n data: b\nfoo: c\ndata: d\n\n", [seen(data="d")]),
    "colons in values": (b"data: a:b: c\n\n", [seen(data="a:b: c")]),
    "cut short": (b"data: a\n\nid: 9\ndata: b\n", [seen(data="a")]),
}

CASES = pytest.mark.parametrize(("stream", "expected"), STREAMS.values(), ids=STREAMS.keys())


def read(pieces: list[bytes]) -> tuple[list[Dispatched], int, str]:
    parser = EventStreamParser()
    events = [event for piece in pieces for event in parser.feed(piece)]
    return events, parser.comments, parser.last_event_id


@CASES
def test_parser_reads_a_whole_stream(stream: bytes, expected: list[Any]) -> None:
    """A stream in one piece gives the events that the specification says."""
    assert read([stream])[0] == expected


@CASES
def test_parser_reads_byte_by_byte(stream: bytes, expected: list[Any]) -> None:
    """The same stream one byte at a time gives the same events."""
    assert read([bytes([byte]) for byte in stream])[0] == expected


# Made of what can go wrong at a cut: line ends, marks, fields, and characters of several bytes.
TOKENS = [
    *("\r", "\n", "\r\n", "data", "event", "id", "retry", ":", ": ", " ", "12", "\0"),
    *("a", "ż", "🙂", "\u2028", "\ufeff"),
]


@given(data=st.data(), tokens=st.lists(st.sampled_from(TOKENS), max_size=60))
def test_parser_does_not_see_cuts(data: st.DataObject, tokens: list[str]) -> None:
    """Any stream gives the same events, comments and id however its bytes are cut."""
    stream = "".join(tokens).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=12)))
    edges = [0, *cuts, len(stream)]
    pieces = [stream[a:b] for a, b in pairwise(edges)]

    assert read(pieces) == read([stream])


def test_parser_counts_comments_and_commits_ids_at_blank_lines() -> None:
    """Comments are counted by line; an id counts only from the blank line after it."""
    parser = EventStreamParser()
    parser.feed(b":\n:hello\nid: 1\n")

    assert (parser.comments, parser.last_event_id) == (2, "")

    parser.feed(b"\n")

    assert parser.last_event_id == "1"


# --- the response parser: RFC 9112

HEAD = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n"
RESPONSES: dict[str, tuple[bytes, bytes, bool]] = {
    "length": (HEAD + b"Content-Length: 5\r\n\r\nhello more", b"hello", True),
    "length not reached": (HEAD + b"Content-Length: 9\r\n\r\nhello", b"hello", False),
    "until close": (HEAD + b"\r\nhello", b"hello", True),
    "chunked": (
        HEAD
        + b"Transfer-Encoding: chunked\r\n\r\n"
        + b"5\r\nhello\r\n10;x=y\r\n0123456789abcdef\r\n0\r\n\r\n",
        b"hello0123456789abcdef",
        True,
    ),
    "chunks cut off": (
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n10\r\n01",
        b"hello01",
        False,
    ),
    "after a 103": (
        b"HTTP/1.1 103 Early Hints\r\nx: y\r\n\r\n" + HEAD + b"\r\nhello",
        b"hello",
        True,
    ),
}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 10_000])
@pytest.mark.parametrize(("sent", "body", "complete"), RESPONSES.values(), ids=RESPONSES.keys())
def test_response_is_unframed(sent: bytes, body: bytes, complete: bool, size: int) -> None:  # noqa: FBT001
    """Head and body come out the same in pieces of any size, and a cut-off response is known."""
    response = HttpResponse()
    pieces = [sent[start : start + size] for start in range(0, len(sent), size)]

    got = b"".join(response.feed(piece) for piece in pieces)
    response.feed_eof()

    assert got == body
    assert response.complete == complete
    assert response.status == 200
    assert response.headers["set-cookie"] == "a=1, b=2"


# --- servers

APP = """
import os, subprocess, sys, time
from flask import Flask, Response, request

app = Flask(__name__)

@app.get("/ping")
def ping():
    return f"pong {os.getpid()}"

@app.get("/environment")
def environment():
    return f"{os.environ.get('GIVEN')} {os.environ.get('GUNICORN_CMD_ARGS')} {os.getcwd()}"

@app.get("/child")
def child():
    # A grandchild of the server that would outlive it by far.
    return str(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]).pid)

@app.get("/three")
def three():
    def lines():
        yield "retry: 3000\\n:\\n"
        for number in range(3):
            yield f"id: {number}\\ndata: {number}\\n\\n"
    return Response(lines(), content_type="text/event-stream")

@app.get("/nothing")
def nothing():
    return "", 204

@app.get("/asked")
def asked():
    names = ("Last-Event-ID", "Accept", "Cache-Control")
    return " ".join([request.query_string.decode(), *(request.headers[name] for name in names)])

@app.get("/broken")
def broken():
    raise RuntimeError("broken on purpose")
"""


@pytest.fixture
def app_in(tmp_path: Path) -> str:
    """A plain Flask app in the test's own directory."""
    (tmp_path / "plain.py").write_text(APP)
    return "plain:app"


def is_alive(pid: int) -> bool:
    return any(each.pid == pid and each.running for each in servers._processes())


def processes_under(server: Server) -> list[int]:
    return [each.pid for each in servers._processes() if each.group == server.pid and each.running]


@pytest.mark.parametrize("kind", KINDS)
def test_server_serves_and_ends(kind: str, serve: Serve, app_in: str) -> None:
    """Each kind answers from a worker, shows the request in its log, and stops when asked."""
    server = serve(kind, app_in)

    reply = get(f"{server.url}/ping")

    assert reply.status == 200
    assert reply.text.split()[0] == "pong"
    assert [int(reply.text.split()[1])] == server.worker_pids()
    wait_until(lambda: "GET /ping" in server.log(), what="the line in the access log")
    assert server.stop()
    assert processes_under(server) == []
    assert server.worker_pids() == []


@pytest.mark.parametrize("kind", KINDS)
def test_kill_reaches_the_whole_tree(kind: str, serve: Serve, app_in: str) -> None:
    """After kill no process is left, not even one that a worker started."""
    server = serve(kind, app_in)
    grandchild = int(get(f"{server.url}/child").text)
    assert is_alive(grandchild)

    server.kill()

    assert not is_alive(grandchild)
    assert processes_under(server) == []


def test_the_block_ends_the_server(tmp_path: Path, app_in: str) -> None:
    """Leaving the block ends the tree, also by an exception."""
    with (
        pytest.raises(ZeroDivisionError),
        servers.serve("gunicorn-sync", app_in, cwd=tmp_path) as server,
    ):
        _ = 1 / 0

    assert processes_under(server) == []


def test_a_server_can_come_back_on_its_port(serve: Serve, app_in: str) -> None:
    """A second server takes the port of a killed one, though a client was connected."""
    first = serve("gunicorn-sync", app_in)
    with Reader(f"{first.url}/three"):
        first.kill()
    second = serve("gunicorn-sync", app_in, port=first.port)

    assert second.port == first.port
    assert get(f"{second.url}/ping").status == 200


def test_options_set_the_number_of_workers(serve: Serve, app_in: str) -> None:
    """Options come after the harness's own, so they win."""
    server = serve("gunicorn-sync", app_in, options=["--workers", "2"])

    wait_until(lambda: len(server.worker_pids()) == 2, what="two workers")


def test_a_signal_reaches_one_worker(serve: Serve, app_in: str) -> None:
    """A signal can go to a worker alone; gunicorn then starts another."""
    server = serve("gunicorn-sync", app_in)
    (worker,) = server.worker_pids()

    server.signal(signal.SIGKILL, worker)

    wait_until(lambda: server.worker_pids() not in ([], [worker]), what="a new worker")
    assert get(f"{server.url}/ping").status == 200


def test_no_signal_for_strangers(serve: Serve, app_in: str) -> None:
    """A process outside of the server's tree gets no signal."""
    server = serve("gunicorn-sync", app_in)

    with pytest.raises(ProcessLookupError):
        server.signal(signal.SIGTERM, os.getppid())


def test_the_environment_is_given_and_cleaned(
    serve: Serve, app_in: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Variables reach the app; switches for gunicorn in the caller's shell do not."""
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--workers 3")
    server = serve("gunicorn-sync", app_in, env={"GIVEN": "yes"})

    assert get(f"{server.url}/environment").text == f"yes None {tmp_path.resolve()}"


@pytest.mark.parametrize("kind", ["gunicorn-sync", "werkzeug"])
def test_a_server_that_cannot_start_shows_its_log(kind: str, tmp_path: Path) -> None:
    """A server that ends at once fails with what it said, long before the deadline."""
    (tmp_path / "plain.py").write_text("raise RuntimeError('no such luck')")

    with (
        pytest.raises(AssertionError, match="no such luck"),
        servers.serve(kind, "plain:app", cwd=tmp_path),
    ):
        pass


def test_a_traceback_is_in_the_log(serve: Serve, app_in: str) -> None:
    """What the app writes to stderr is in the log."""
    server = serve("werkzeug", app_in)

    assert get(f"{server.url}/broken").status == 500
    assert "broken on purpose" in server.log()


# --- clients, against a server that does exactly as told


class Scripted:
    """A listener whose connections are answered by a function, one thread for each."""

    def __init__(self, answer: Callable[[socket.socket], None]) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)
        self._accepting.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}/"

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            if client.getpeername() == self._farewell:
                client.close()
                return
            thread = threading.Thread(target=self._serve, args=(client,))
            self._threads.append(thread)
            thread.start()

    _farewell: object = None

    def _serve(self, client: socket.socket) -> None:
        with client:
            client.settimeout(20)
            while not client.recv(65_536).endswith(b"\r\n\r\n"):
                pass
            try:
                self._answer(client)
            except ConnectionError:
                return  # the client left first, as some tests want

    def close(self) -> None:
        with socket.socket() as last:
            last.bind(("127.0.0.1", 0))
            self._farewell = last.getsockname()
            last.connect(self._listener.getsockname())
            self._accepting.join(10)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()


@pytest.fixture
def scripted() -> Iterator[Callable[[Callable[[socket.socket], None]], str]]:
    """Start a listener that answers every request with the given function; gives its address."""
    started: list[Scripted] = []

    def start(answer: Callable[[socket.socket], None]) -> str:
        started.append(Scripted(answer))
        return started[-1].url

    yield start
    for each in started:
        each.close()


STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def until_left(client: socket.socket) -> None:
    """Wait until the client closes its end."""
    while client.recv(65_536):
        pass


@pytest.mark.parametrize("kind", ["gunicorn-sync", "werkzeug"])
def test_reader_reads_a_stream_to_its_end(kind: str, serve: Serve, app_in: str) -> None:
    """Events, comments, head and the end of a stream are what the server sent."""
    server = serve(kind, app_in)

    with Reader(f"{server.url}/three") as reader:
        events = [reader.next_event() for _ in range(3)]
        reader.wait_end()

        assert reader.status == 200
        assert reader.headers["content-type"] == "text/event-stream"
        assert reader.head.startswith(b"HTTP/1.")
        assert events == [seen(data=str(n), id=str(n), retry=3000) for n in range(3)]
        assert reader.comments == 1
        assert reader.last_event_id == "2"
        assert reader.raw.startswith(b"retry: 3000\n:\nid: 0\n")
        assert reader.complete


def test_a_reply_without_a_body(serve: Serve, app_in: str) -> None:
    """A 204 is complete with its head, for `get` and for a reader."""
    server = serve("gunicorn-sync", app_in)

    assert get(f"{server.url}/nothing").status == 204
    with Reader(f"{server.url}/nothing") as reader:
        reader.wait_end()
        assert reader.status == 204


def test_reader_sends_its_headers(serve: Serve, app_in: str) -> None:
    """Headers of the caller are sent, and replace the reader's own of the same name."""
    server = serve("gunicorn-sync", app_in)

    with Reader(f"{server.url}/asked?a=b", {"Last-Event-ID": "5", "Accept": "x/y"}) as reader:
        reader.wait_end()
        assert reader.raw == b"a=b 5 x/y no-store"


def test_reader_counts_comments_without_waiting(scripted: Any) -> None:
    """Comments can be waited for: looking at the count takes in what has arrived."""

    def answer(client: socket.socket) -> None:
        client.sendall(STREAM_HEAD + b":\n")
        client.sendall(b":\n")
        until_left(client)

    with Reader(scripted(answer)) as reader:
        wait_until(lambda: reader.comments == 2, what="two comments")


def test_reader_fails_when_no_event_comes(scripted: Any) -> None:
    """A silent stream fails at the deadline and shows what has arrived."""

    def answer(client: socket.socket) -> None:
        client.sendall(STREAM_HEAD + b"data: half")
        until_left(client)

    with (
        Reader(scripted(answer)) as reader,
        pytest.raises(AssertionError, match="next event; got so far: b'data: half'"),
    ):
        reader.next_event(within_s=0.05)


def test_reader_fails_on_a_stream_that_never_falls_silent(scripted: Any) -> None:
    """A deadline holds although bytes keep coming."""

    def answer(client: socket.socket) -> None:
        client.sendall(STREAM_HEAD)
        while True:
            client.sendall(b":\n" * 1000)

    with (
        Reader(scripted(answer)) as reader,
        pytest.raises(AssertionError, match="the end of the stream"),
    ):
        reader.wait_end(within_s=0.1)


def test_reader_says_that_the_stream_ended(scripted: Any) -> None:
    """Waiting for an event on a stream that ended fails at once."""
    with (
        Reader(scripted(lambda client: client.sendall(STREAM_HEAD))) as reader,
        pytest.raises(AssertionError, match="the stream ended"),
    ):
        reader.next_event()


def test_a_reset_is_an_end_that_is_not_complete(scripted: Any) -> None:
    """A connection that breaks ends the stream, and the reader knows that it was cut."""

    def answer(client: socket.socket) -> None:
        client.sendall(STREAM_HEAD.replace(b"Connection: close", b"Transfer-Encoding: chunked"))
        client.sendall(b"9\r\ndata: a\n\n\r\n9\r\ndata")

    with Reader(scripted(answer)) as reader:
        assert reader.next_event()["data"] == "a"
        reader.wait_end()
        assert not reader.complete


def test_get_fails_on_a_reply_that_is_cut_off(scripted: Any) -> None:
    """Half a reply is no reply."""

    def answer(client: socket.socket) -> None:
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

    with pytest.raises(AssertionError, match="cut off after 4 bytes"):
        get(scripted(answer))


def test_get_has_a_deadline(scripted: Any) -> None:
    """A server that never answers costs the deadline and no more."""
    with pytest.raises(AssertionError, match=r"waited 0\.05 s for the response head"):
        get(scripted(until_left), timeout_s=0.05)


def test_crowd_reads_every_stream(scripted: Any) -> None:
    """Each stream of a crowd gets its events, in order, and its end is counted."""

    def answer(client: socket.socket) -> None:
        client.sendall(STREAM_HEAD + b"data: 1\n\nda")
        client.sendall(b"ta: 2\n\n")

    with Crowd.open(scripted(answer), 150) as crowd:
        crowd.wait_opened(150, within_s=10)
        crowd.wait_events(2, within_s=10)
        crowd.wait_ended(150, within_s=10)

    assert crowd.opened == crowd.ended == 150
    assert {tuple(crowd.data_of(index)) for index in range(150)} == {("1", "2")}


def test_crowd_leaves_all_at_once(scripted: Any) -> None:
    """Closing a crowd closes each connection, and may be done twice."""
    left = threading.Semaphore(0)

    def answer(client: socket.socket) -> None:
        client.sendall(STREAM_HEAD)
        until_left(client)
        left.release()

    crowd = Crowd.open(scripted(answer), 50)
    crowd.wait_opened(50, within_s=10)
    crowd.close_all()
    crowd.close_all()

    assert all(left.acquire(timeout=10) for _ in range(50))
    assert crowd.ended == 0


def test_crowd_names_refusals(scripted: Any) -> None:
    """Streams that are refused are counted by status, and waiting for them fails at once."""

    def answer(client: socket.socket) -> None:
        client.sendall(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")

    with Crowd.open(scripted(answer), 3) as crowd:
        with pytest.raises(AssertionError, match="status 503"):
            crowd.wait_opened(1, within_s=60)
        wait_until(lambda: crowd.refused == {"status 503": 3}, what="three refusals")
        assert crowd.opened == 0


def test_crowd_names_connections_that_fail() -> None:
    """A port where nobody listens is an error of its own kind, not a hang."""
    with (
        Crowd.open(f"http://127.0.0.1:{free_port()}/", 2) as crowd,
        pytest.raises(AssertionError, match="Connection refused"),
    ):
        crowd.wait_opened(2, within_s=60)


def test_crowd_fails_when_events_do_not_come(scripted: Any) -> None:
    """A wait for events that do not come fails and says how far the crowd got."""

    def answer(client: socket.socket) -> None:
        client.sendall(STREAM_HEAD + b"data: 1\n\n")
        until_left(client)

    with Crowd.open(scripted(answer), 2) as crowd:
        crowd.wait_events(1, within_s=10)
        with pytest.raises(AssertionError, match="2 of 2 opened, 0 ended"):
            crowd.wait_events(2, within_s=0.05)


# --- programs


def test_a_missing_program_says_what_to_install() -> None:
    """A test whose program is missing fails with the name of a package."""
    assert Path(program("sh")).exists()
    with pytest.raises(AssertionError, match="apt-get install no-such-program"):
        program("no-such-program")
