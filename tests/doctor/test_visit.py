"""`flask_eventstream.doctor.visit`: what comes back, piece by piece, and how it ended."""

from __future__ import annotations

import gzip
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flask_eventstream.doctor.visit import Address, Visit

WITHIN_S = 10
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
TEXT = b"retry: 3000\n:\ndata: hello\n\n"


class Peer:
    """The other end of a visit's connection."""

    def __init__(self, **more: Any) -> None:
        self.theirs, ours = socket.socketpair()

        class There(Address):
            def connect(self, protocols: list[str], *, within_s: float) -> socket.socket:
                return ours

        address = There("http://shop/s?a=b", "shop", 80, is_tls=False, target="/s?a=b",
                        authority="shop")  # fmt: skip
        self.visit = Visit(address, {"Cookie": "a=b"}, within_s=WITHIN_S, **more)

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

    assert not peer.visit.wait(lambda: False, within_s=WITHIN_S)
    assert (peer.visit.status, peer.visit.body) == (200, TEXT)
    assert peer.visit.headers["content-type"] == "text/event-stream"
    assert (peer.visit.ended, peer.visit.garbled) == (ended, False)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200",
        COUNTED[:-1],
        CHUNKED + chunk(TEXT),
        CHUNKED + b"what?\r\n",
    ],
)
def test_a_body_that_is_cut(sent: bytes, meet: Callable[..., Peer]) -> None:
    """Where more should have come, and where it is no HTTP, the end is a cut."""
    peer = meet()
    peer.send(sent)
    peer.theirs.shutdown(socket.SHUT_WR)

    assert not peer.visit.wait(lambda: False, within_s=WITHIN_S)
    assert peer.visit.ended == "cut"


def test_plain_text_that_calls_itself_gzip(meet: Callable[..., Peer]) -> None:
    """A body that is not compressed as its head says is handed out as it is, and marked."""
    peer = meet()
    peer.send(OK + b"Content-Encoding: gzip\r\n\r\n" + TEXT)

    assert peer.visit.wait(lambda: TEXT in peer.visit.body, within_s=WITHIN_S)
    assert peer.visit.garbled


def test_reading_goes_on_after_a_wait_in_vain(meet: Callable[..., Peer]) -> None:
    """What comes after a timeout is read all the same."""
    peer = meet()
    early = peer.visit.wait_head(within_s=0.01)
    peer.send(OK + b"\r\n" + TEXT)

    assert not early
    assert peer.visit.wait(lambda: peer.visit.body == TEXT, within_s=WITHIN_S)
    assert peer.visit.ended == ""


def test_the_last_chunk_is_no_sign_of_life(meet: Callable[..., Peer]) -> None:
    """Silence is measured from the last byte of the body, and not from the end's own mark."""
    peer = meet()
    peer.send(CHUNKED + chunk(TEXT))
    peer.visit.wait(lambda: peer.visit.body == TEXT, within_s=WITHIN_S)
    before = peer.visit.last_byte_s
    peer.send(b"0\r\n\r\n")
    peer.visit.wait(lambda: False, within_s=WITHIN_S)

    assert peer.visit.ended == "finished"
    assert peer.visit.last_byte_s == before


def test_the_head_of_a_head_request_is_all(meet: Callable[..., Peer]) -> None:
    """The answer to HEAD has no body, whatever length it names."""
    peer = meet(method="HEAD")
    peer.send(OK + b"Content-Length: 5\r\n\r\n")

    assert peer.visit.wait_head(within_s=WITHIN_S)
    assert peer.visit.body == b""


@pytest.mark.parametrize(("compressed", "said"), [(True, b"gzip"), (False, b"identity")])
def test_the_request(compressed: bool, said: bytes, meet: Callable[..., Peer]) -> None:  # noqa: FBT001
    """The request is that of an EventSource, with the headers that were given."""
    request = meet(compressed=compressed).theirs.recv(4096)
    first, *headers = request.removesuffix(b"\r\n\r\n").split(b"\r\n")

    assert first == b"GET /s?a=b HTTP/1.1"
    assert set(headers) >= {
        b"Host: shop",
        b"Accept: text/event-stream",
        b"Accept-Encoding: " + said,
        b"Cookie: a=b",
    }


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


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("http://a/s?b=c#d", ("a", 80, False, "/s?b=c", "a")),
        ("https://a:1/", ("a", 1, True, "/", "a:1")),
        ("https://u:p@[::1]", ("::1", 443, True, "/", "[::1]")),
    ],
)
def test_an_address(url: str, parts: tuple[object, ...]) -> None:
    """An address is taken apart into what a connection and a request need."""
    address = Address.parse(url)

    assert parts == (
        *(address.host, address.port, address.is_tls),
        *(address.target, address.authority),
    )
