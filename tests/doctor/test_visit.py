"""`flask_eventstream.doctor.visit`: what comes back, piece by piece, and how it ended."""

from __future__ import annotations

import contextlib
import gzip
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_eventstream.doctor.address import Address
from flask_eventstream.doctor.visit import Visit

WITHIN_S = 10
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
TEXT = b"retry: 3000\n:\ndata: hello\n\n"


class Peer:
    """The other end of a visit's connection."""

    def __init__(self, headers: dict[str, str] | None = None, **more: Any) -> None:
        self.theirs, ours = socket.socketpair()

        class There(Address):
            def connect(self, protocols: list[str], *, within_s: float) -> socket.socket:
                return ours

        address = There("http://shop/s?a=b", "shop", 80, is_tls=False, target="/s?a=b",
                        authority="shop")  # fmt: skip
        self.visit = Visit(address, headers or {"Cookie": "a=b"}, within_s=WITHIN_S, **more)

    def send(self, data: bytes) -> None:
        self.theirs.sendall(data)


@pytest.fixture
def meet() -> Iterator[Callable[..., Peer]]:
    peers = []

    def meet(**more: Any) -> Peer:
        peers.append(Peer(**more))
        return peers[-1]

    yield meet
    for peer in peers:
        peer.theirs.close()
        peer.visit.close()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


COUNTED = OK + b"Content-Length: %d\r\n\r\n" % len(TEXT) + TEXT
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
ZIPPED = gzip.compress(TEXT)
SIZES = (b"what?", b"-5", b"+5", b"0x10", b"1_0", b"", b"f" * 21)
WHOLE = {
    "by the end of the connection": (OK + b"\r\n" + TEXT, "closed"),
    "by its length": (COUNTED, "finished"),
    "in chunks": (CHUNKED + chunk(TEXT[:9]) + chunk(TEXT[9:]) + b"0\r\n\r\n", "finished"),
    "in chunks with extensions": (CHUNKED + b"1B;x=y\r\n" + TEXT + b"\r\n0\r\n\r\n", "finished"),
    "compressed": (OK + b"Content-Encoding: gzip\r\n\r\n" + ZIPPED, "closed"),
    "after early hints": (b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n" + COUNTED, "finished"),
}


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize("name", WHOLE)
def test_a_body_in_pieces(name: str, size: int, meet: Callable[..., Peer]) -> None:
    """Whatever the framing and however it is cut, the body is the same, and its end has a word."""
    peer = meet()
    sent, ended = WHOLE[name]
    for start in range(0, len(sent), size):
        peer.send(sent[start : start + size])
        peer.visit._read(WITHIN_S)
    peer.theirs.shutdown(socket.SHUT_WR)

    assert peer.visit.wait_for(TEXT, within_s=WITHIN_S)
    assert not peer.visit.wait_for(b"more", within_s=WITHIN_S)
    assert peer.visit.status == 200
    assert peer.visit.headers["content-type"] == "text/event-stream"
    assert (peer.visit.ended, peer.visit.garbled) == (ended, False)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"HTTP/1.1 200",
        COUNTED[:-1],
        CHUNKED + chunk(TEXT),
    ],
)
def test_a_body_that_is_cut(sent: bytes, meet: Callable[..., Peer]) -> None:
    """Where more should have come, the end is a cut."""
    peer = meet()
    peer.send(sent)
    peer.theirs.shutdown(socket.SHUT_WR)

    assert not peer.visit.wait_for(b"more", within_s=WITHIN_S)
    assert (peer.visit.ended, peer.visit.broken) == ("cut", "")


@pytest.mark.parametrize(
    "sent",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nwhat?\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"A: b\r\n" * 100_000,
        *(CHUNKED + size + b"\r\n" for size in SIZES),
    ],
)
def test_what_is_not_http(sent: bytes, meet: Callable[..., Peer]) -> None:
    """What breaks the rules of HTTP ends the visit, though the connection stays, and is told."""
    peer = meet()
    sender = threading.Thread(target=send_all, args=(peer.theirs, sent))
    sender.start()
    came = peer.visit.wait_for(b"more", within_s=WITHIN_S)
    peer.visit.close()
    sender.join()

    assert not came
    assert peer.visit.ended == "broken"
    assert peer.visit.broken


def send_all(there: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):  # who is refused may still send
        there.sendall(data)


def test_plain_text_that_calls_itself_gzip(meet: Callable[..., Peer]) -> None:
    """A body that is not compressed as its head says is handed out as it is, and marked."""
    peer = meet()
    peer.send(OK + b"Content-Encoding: gzip\r\n\r\n" + TEXT)

    assert peer.visit.wait_for(TEXT, within_s=WITHIN_S)
    assert peer.visit.garbled


def test_reading_goes_on_after_a_wait_in_vain(meet: Callable[..., Peer]) -> None:
    """What comes after a timeout is read all the same."""
    peer = meet()
    early = peer.visit.wait_head(within_s=0.01)
    peer.send(OK + b"\r\n" + TEXT)

    assert not early
    assert peer.visit.wait_for(TEXT, within_s=WITHIN_S)
    assert peer.visit.ended == ""


def test_the_last_chunk_is_no_sign_of_life(meet: Callable[..., Peer]) -> None:
    """Silence is measured from the last byte of the body, and not from the end's own mark."""
    peer = meet()
    peer.send(CHUNKED + chunk(TEXT))
    peer.visit.wait_for(TEXT, within_s=WITHIN_S)
    before = peer.visit.last_byte_s
    peer.send(b"0\r\n\r\n")
    peer.visit.wait_for(b"more", within_s=WITHIN_S)

    assert peer.visit.ended == "finished"
    assert peer.visit.last_byte_s == before


def test_the_head_of_a_head_request_is_all(meet: Callable[..., Peer]) -> None:
    """The answer to HEAD has no body, whatever length it names."""
    peer = meet(method="HEAD")
    peer.send(OK + b"Content-Length: 5\r\n\r\n")

    assert peer.visit.wait_head(within_s=WITHIN_S)
    assert peer.visit.ended == "finished"


@pytest.mark.parametrize(("compressed", "said"), [(True, b"gzip"), (False, b"identity")])
def test_the_request(compressed: bool, said: bytes, meet: Callable[..., Peer]) -> None:  # noqa: FBT001
    """The request is that of an EventSource, with the headers that were given."""
    request = meet(compressed=compressed).theirs.recv(4096)
    first, *headers = request.removesuffix(b"\r\n\r\n").split(b"\r\n")

    assert first == b"GET /s?a=b HTTP/1.1"
    assert {line.lower() for line in headers} >= {
        b"host: shop",
        b"accept: text/event-stream",
        b"accept-encoding: " + said,
        b"cookie: a=b",
    }


def test_a_header_takes_the_place_of_ours(meet: Callable[..., Peer]) -> None:
    """A header that the user gives replaces the visit's own, whatever its letters' case."""
    request = meet(headers={"HOST": "other", "Last-Event-ID": "é"}).theirs.recv(4096).lower()

    assert request.count(b"host: ") == 1
    assert b"host: other\r\n" in request
    assert "last-event-id: é\r\n".encode() in request


@pytest.mark.parametrize("header", [("Content-Length", "5"), ("a b", "c"), ("A", "b\r\nC: d")])
def test_a_header_that_can_not_be_sent(header: tuple[str, str]) -> None:
    """What would break the request is refused before anybody is asked."""
    address = Address.parse("http://127.0.0.1:9/")
    with pytest.raises(ValueError, match="that can't be asked for"):
        Visit(address, dict([header]), within_s=WITHIN_S)


def test_the_head_as_it_came(meet: Callable[..., Peer]) -> None:
    """Names of headers are in lower case, and one that comes twice is one."""
    peer = meet()
    peer.send(b"HTTP/1.0 404 Gone\r\nVia: a\r\nVIA: b\r\nX: \xff\r\n\r\n")

    assert peer.visit.wait_head(within_s=WITHIN_S)
    assert (peer.visit.status, peer.visit.version) == (404, "1.0")
    assert peer.visit.headers == {"via": "a, b", "x": "ÿ"}


def test_a_line_is_read(meet: Callable[..., Peer]) -> None:
    """The rest of a line can be had, and the next line is found after it."""
    peer = meet()
    peer.send(OK + b"\r\nid: 7\n:\n")

    assert peer.visit.wait_for(b"\nid: ", within_s=WITHIN_S)
    assert peer.visit.read_line(within_s=WITHIN_S) == "7"
    assert peer.visit.wait_for(b"\n:\n", within_s=WITHIN_S)
    assert peer.visit.read_line(within_s=WITHIN_S) == ""


def test_who_sends_without_end_takes_no_memory(meet: Callable[..., Peer]) -> None:
    """A server that sends as fast as it can is read until the time is over, and nothing is kept."""
    peer = meet()
    sender = threading.Thread(target=send_all, args=(peer.theirs, OK + b"\r\n" + bytes(32 << 20)))
    sender.start()
    peer.visit.wait_for(b"more", within_s=1)
    peer.visit.close()
    sender.join()

    assert len(peer.visit._body._unread) < 1000


# ---- whatever a server may send

PIECES = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [
            *(OK, b"\r\n", CHUNKED, COUNTED, TEXT, ZIPPED, chunk(TEXT), b"0\r\n\r\n", b"-5\r\n"),
            *(
                b"Content-Encoding: gzip\r\n",
                b"HTTP/1.1 103 Early\r\n\r\n",
                b"Content-Length: 9\r\n",
            ),
        ]
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=12))
def test_whatever_comes_is_read(pieces: list[bytes]) -> None:
    """No bytes raise anything; the visit ends with the connection at the latest, with its word."""
    peer = Peer()
    try:
        for piece in pieces:
            peer.send(piece)
        peer.theirs.shutdown(socket.SHUT_WR)
        peer.visit.wait_head(within_s=WITHIN_S)
        peer.visit.wait_for(b"never comes", within_s=WITHIN_S)

        assert peer.visit.ended in {"finished", "closed", "cut", "broken"}
        assert bool(peer.visit.broken) == (peer.visit.ended == "broken")
    finally:
        peer.theirs.close()
        peer.visit.close()


@settings(max_examples=100, deadline=None)
@given(st.lists(PIECES, max_size=8), st.data())
def test_cuts_change_nothing(pieces: list[bytes], data: st.DataObject) -> None:
    """What a visit makes of an answer does not depend on how the network cuts it."""
    sent = b"".join(pieces)
    cut = data.draw(st.integers(0, len(sent)))

    assert read_in([sent]) == read_in([sent[:cut], sent[cut:]])


def read_in(pieces: list[bytes]) -> tuple[object, ...]:
    peer = Peer()
    try:
        for piece in filter(None, pieces):
            if peer.visit.ended:
                break
            peer.send(piece)
            peer.visit._read(WITHIN_S)
        peer.theirs.shutdown(socket.SHUT_WR)
        found = peer.visit.wait_for(TEXT, within_s=WITHIN_S)
        return found, peer.visit.ended, peer.visit.status, peer.visit.headers, peer.visit.garbled
    finally:
        peer.theirs.close()
        peer.visit.close()


def test_a_reset_is_a_cut() -> None:
    """A connection that is reset was cut."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = Address.parse(f"http://127.0.0.1:{server.getsockname()[1]}/")
        with Visit(address, {}, within_s=WITHIN_S) as visit:
            connection, _ = server.accept()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

            assert not visit.wait_head(within_s=WITHIN_S)
            assert visit.ended == "cut"
