"""`flask_eventstream.doctor.address`: where a URL leads, and how long it takes to get there."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from flask_eventstream.doctor.address import Address, offers_http2

WITHIN_S = 10


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


@pytest.mark.parametrize(
    "url", ["a", "ftp://a", "http://", "http://a/b c", "http://a/\n", "http://é"]
)
def test_what_is_no_address(url: str) -> None:
    """What no browser would ask for is refused."""
    with pytest.raises(ValueError, match="write http://host/stream"):
        Address.parse(url)


def test_many_addresses_share_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with many addresses, none of which answers, takes no longer than one."""
    with socket.socket() as deaf:
        # It never accepts, and its queue is full: a further connection waits.
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.settimeout(0)
            each.connect_ex(deaf.getsockname())
        there: Any = (socket.AF_INET, socket.SOCK_STREAM, 0, "", deaf.getsockname())
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [there] * 20)
        began_s = time.monotonic()
        with pytest.raises(TimeoutError):
            Address.parse("http://shop.example").connect([], within_s=0.2)
        took_s = time.monotonic() - began_s
        for each in waiting:
            each.close()

    assert took_s < 2


def test_the_next_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the first of a name's addresses refuses, the next one is asked."""
    with socket.socket() as nobody, socket.create_server(("127.0.0.1", 0)) as server:
        nobody.bind(("127.0.0.1", 0))
        both: Any = [
            (socket.AF_INET, socket.SOCK_STREAM, 0, "", each.getsockname())
            for each in (nobody, server)
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: both)
        address = Address.parse("http://shop.example")
        with address.connect([], within_s=WITHIN_S) as connection:
            assert connection.getpeername() == server.getsockname()
        assert not offers_http2(address, within_s=WITHIN_S)


def test_a_server_that_never_says_hello() -> None:
    """A server that takes a connection and never answers the greeting of TLS is not waited for."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = Address.parse(f"https://127.0.0.1:{server.getsockname()[1]}")
        began_s = time.monotonic()
        with pytest.raises(OSError):  # noqa: PT011  which one depends on OpenSSL
            address.connect(["http/1.1"], within_s=0.2)

    assert time.monotonic() - began_s < 2
