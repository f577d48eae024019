"""Who may have a stream: limits, counts, and what is said."""

from __future__ import annotations

import resource
import threading
from typing import Any

import pytest

from flask_eventstream.config import Config
from flask_eventstream.errors import InvalidChannel
from flask_eventstream.hub import admission as room
from flask_eventstream.hub.admission import Admission, Refusal, StreamCount
from flask_eventstream.hub.request import Reader

NOBODY = Reader()


def an_admission(
    *, random: float = 0.5, process: StreamCount | None = None, **config: Any
) -> Admission:
    return Admission(Config(**config), random=lambda: random, process=process or StreamCount())


@pytest.mark.parametrize(
    ("threads", "max_streams", "most"),
    [(1, None, 1), (2, None, 1), (8, None, 4), (2000, None, 1000), (8, 100, 4)],
)
def test_threads_that_may_hold_a_stream(threads: int, max_streams: int | None, most: int) -> None:
    """Half of a server's threads hold streams, and of one thread that one."""
    assert_most(most, threads, max_streams)


@pytest.mark.parametrize(("max_streams", "most"), [(None, 1), (5, 5)])
def test_threads_that_nobody_can_count(max_streams: int | None, most: int) -> None:
    """Of threads that can't be counted one holds a stream, or SSE_MAX_STREAMS do."""
    assert_most(most, None, max_streams)


def assert_most(most: int, threads: int | None, max_streams: int | None) -> None:
    admission = an_admission() if max_streams is None else an_admission(max_streams=max_streams)

    assert all(admission.hold_thread(threads) for _ in range(most))
    assert not admission.hold_thread(threads)

    admission.free_thread()

    assert admission.hold_thread(threads)


def test_threads_are_counted_together() -> None:
    """However many threads ask at once, no more get one than there are."""
    admission = an_admission()
    granted: list[bool] = []

    def ask() -> None:
        granted.append(admission.hold_thread(8))

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert granted.count(True) == 4


def test_applications_share_the_threads() -> None:
    """Two applications of one process have half of its threads together, and not half each."""
    process = StreamCount()
    one, other = an_admission(process=process), an_admission(process=process)

    assert all(admission.hold_thread(8) for admission in (one, other, one, other))
    assert not one.hold_thread(8)
    assert not other.hold_thread(8)

    one.free_thread()

    assert other.hold_thread(8)


def test_a_limit_of_ones_own() -> None:
    """So many streams as SSE_MAX_STREAMS says; one that leaves makes room for another."""
    admission = an_admission(max_streams=2)

    assert [admission.enter(NOBODY) for _ in range(3)] == [
        None,
        None,
        (Refusal.FULL, "2 are open, all that SSE_MAX_STREAMS allows: raise it"),
    ]

    admission.leave(NOBODY)

    assert admission.enter(NOBODY) is None


def test_descriptors_are_everybodys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two applications of a process share its open files, less a hundred."""
    monkeypatch.setattr(room, "open_file_limit", lambda: 103)
    process = StreamCount()
    one, other = an_admission(process=process), an_admission(process=process)

    assert [one.enter(NOBODY), other.enter(NOBODY), one.enter(NOBODY)] == [None, None, None]
    assert other.enter(NOBODY) == (
        Refusal.FULL,
        "3 are open, all that the limit on open files allows: raise ulimit -n",
    )

    one.leave(NOBODY)

    assert other.enter(NOBODY) is None


def test_there_is_always_room_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where hardly any file may be opened, one stream is still allowed."""
    monkeypatch.setattr(room, "open_file_limit", lambda: 20)
    admission = an_admission()

    assert admission.enter(NOBODY) is None
    assert admission.enter(NOBODY) is not None


def test_the_limit_of_this_process_is_asked() -> None:
    """The limit on open files is this process's own."""
    assert room.open_file_limit() == resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_too_many_channels() -> None:
    """A stream of more channels than SSE_MAX_CHANNELS can't be asked for."""
    admission = an_admission(max_channels=2)
    admission.check_channels(2)

    with pytest.raises(InvalidChannel, match=r"^3 channels: more than 2 .*SSE_MAX_CHANNELS"):
        admission.check_channels(3)


@pytest.mark.parametrize(("random", "retry_ms"), [(0.0, 100), (0.5, 1600), (1.0, 3100)])
def test_who_is_sent_away_comes_back_at_random(random: float, retry_ms: int) -> None:
    """The answer is a retry within the configured one and a tenth of a second, and a comment."""
    answer = an_admission(random=random).refuse(Refusal.FULL, "")

    assert answer == b"retry: %d\n:\n" % retry_ms


def test_refusals_are_counted_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """Each kind of refusal is counted, and logged the first time with its remedy."""
    admission = an_admission()
    for _ in range(3):
        admission.refuse(Refusal.FULL, "raise it")
    admission.refuse(Refusal.NO_DESCRIPTOR, "raise ulimit -n")
    admission.refuse(Refusal.STOPPING, "nothing to be done")

    assert admission.refused == {"full": 3, "no-descriptor": 1, "stopping": 1}
    assert caplog.messages == [
        "A stream was sent away: raise it",
        "A stream was sent away: raise ulimit -n",
    ]


@pytest.mark.parametrize(
    ("files", "server_files", "most"),
    [(1000, 0, 900), (1000, 250, 650), (1000, 1004, 500), (100_000, 1004, 98_896), (140, 1004, 40)],
)
def test_descriptors_that_are_left_to_the_server(
    monkeypatch: pytest.MonkeyPatch, files: int, server_files: int, most: int
) -> None:
    """What the server says it may need is left to it, up to half of all that there are."""
    monkeypatch.setattr(room, "open_file_limit", lambda: files)
    admission = an_admission()
    admission.leave_to_server(server_files)
    entered = 0
    while admission.enter(NOBODY) is None:
        entered += 1

    assert entered == most


def why(admission: Admission, reader: Reader) -> Refusal | None:
    refused = admission.enter(reader)
    return refused[0] if refused else None


def test_streams_of_one_address() -> None:
    """An address has so many streams as it may; others are served, and none is put out for it."""
    admission = an_admission(max_streams_per_address=2)
    greedy, other = Reader(address="192.0.2.1"), Reader(address="192.0.2.2")

    assert [why(admission, greedy) for _ in range(3)] == [None, None, Refusal.ADDRESS]
    assert why(admission, other) is None

    admission.leave(greedy)

    assert [why(admission, greedy) for _ in range(2)] == [None, Refusal.ADDRESS]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("a-socket", "a-socket", True),
    ],
)
def test_whose_address_it_is(one: str, other: str, same: bool) -> None:  # noqa: FBT001
    """The addresses of an IPv6 network are one customer's; an IPv4 address has one spelling."""
    admission = an_admission(max_streams_per_address=1)
    admission.enter(Reader(address=one))

    assert why(admission, Reader(address=other)) is (Refusal.ADDRESS if same else None)


def test_addresses_are_counted_where_they_are_bounded() -> None:
    """Without a limit, or without an address, any number of streams is let in."""
    assert not any(an_admission().enter(Reader(address="192.0.2.1")) for _ in range(100))

    bounded = an_admission(max_streams_per_address=1)

    assert not any(bounded.enter(NOBODY) for _ in range(100))


def test_streams_of_one_subject() -> None:
    """A subject has 64 streams unless another number is set; others, and nobody, have theirs."""
    admission = an_admission()
    ann = Reader(subject="ann")
    refused = [why(admission, ann) for _ in range(65)]

    assert refused == [None] * 64 + [Refusal.SUBJECT]
    assert why(admission, Reader(subject="bob")) is None
    assert not any(admission.enter(NOBODY) for _ in range(100))

    admission.leave(ann)

    assert why(admission, ann) is None


def test_who_left_is_forgotten() -> None:
    """An address and a subject without streams take no memory."""
    admission = an_admission(max_streams_per_address=1)
    for number in range(100):
        reader = Reader(address=f"192.0.2.{number}", subject=str(number))
        admission.enter(reader)
        admission.leave(reader)

    assert not admission._of_address
    assert not admission._of_subject


def test_a_refusal_says_how_to_allow_more_and_not_who_it_was() -> None:
    """What is logged names the setting, never the address or the subject."""
    admission = an_admission(max_streams_per_address=1, max_streams_per_subject=1)
    one = Reader(address="192.0.2.1", subject="ann")
    admission.enter(one)
    details = [
        str(admission.enter(one)),
        str(admission.enter(Reader(address="192.0.2.9", subject="ann"))),
    ]

    assert ["SSE_MAX_STREAMS_PER_ADDRESS" in details[0], "ProxyFix" in details[0]] == [True, True]
    assert "SSE_MAX_STREAMS_PER_SUBJECT" in details[1]
    assert not any(secret in text for text in details for secret in ("192.0.2", "ann"))
