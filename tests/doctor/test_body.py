"""`flask_eventstream.doctor.body`: what is found in a body, and how little of it is kept."""

from __future__ import annotations

import gzip
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_eventstream.doctor.body import Body

DATA = gzip.compress(b"data", mtime=0)
BOMB = gzip.compress(bytes(64 << 20), mtime=0)


@given(st.lists(st.binary(max_size=6)), st.binary(min_size=1, max_size=3), st.booleans())
def test_a_text_is_found_wherever_it_is_cut(
    pieces: list[bytes],
    wanted: bytes,
    early: bool,  # noqa: FBT001
) -> None:
    """A text is found if it is in the body, however that was cut, asked for early or late."""
    body = Body()
    if early:
        body.want(wanted)
    for piece in pieces:
        body.take(piece)
    if not early:
        body.want(wanted)

    assert body.found == (wanted in b"\n" + b"".join(pieces))


def test_each_find_is_another() -> None:
    """What was found once is not found again, but a line's end begins the next line."""
    body = Body()
    body.want(b"\n:\n")
    body.take(b":\n")
    first = body.found
    body.want(b"\n:\n")
    none_yet = body.found
    body.take(b":\n")

    assert (first, none_yet, body.found) == (True, False, True)


def test_a_comment_is_a_line_of_its_own() -> None:
    """A line of an event that ends with a colon is no comment."""
    body = Body()
    body.want(b"\n:\n")
    body.take(b"data: see below:\n\n")

    assert not body.found


def test_what_stood_before() -> None:
    """What stood before a find can be had, as far as a line may matter."""
    body = Body()
    body.want(b"!")
    body.take(b"a" * 1000)
    body.take(b"b!")

    assert body.before == b"a" * 255 + b"b"


@pytest.mark.parametrize(
    ("encoding", "sent", "garbled"),
    [
        ("", b"data", False),
        ("identity", b"data", False),
        ("gzip", DATA, False),
        ("gzip", DATA + b"and more", False),
        ("gzip", b"data", True),
        ("br", b"data", True),
    ],
)
def test_encodings(encoding: str, sent: bytes, garbled: bool) -> None:  # noqa: FBT001
    """Compression is undone, once; what is not what its head says is marked, and read."""
    body = Body()
    body.want(b"data")
    body.begin(encoding)

    assert body.take(sent)
    assert (body.found, body.garbled) == (True, garbled)


def test_half_a_head_of_gzip_is_nothing_yet() -> None:
    """Bytes that decode to nothing are no sign of life."""
    body = Body()
    body.begin("gzip")

    assert not body.take(BOMB[:5])


@pytest.mark.parametrize("wanted", [b"never", b""])
def test_a_bomb_takes_no_memory(wanted: bytes) -> None:
    """64 MB of text in 64 KB of gzip are looked through in slices, and not kept."""
    body = Body()
    body.begin("gzip")
    body.want(wanted)
    tracemalloc.start()
    body.take(BOMB)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert most < 8 << 20
