"""Not waiting again and again for a server that does not answer."""

from __future__ import annotations

import pytest

from flask_eventstream.brokers.breaker import Breaker, Leave


class Clock:
    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(rest_s=2, clock=clock)


def test_a_server_that_answers_is_asked(breaker: Breaker) -> None:
    """Nothing stands between callers and a server that answers."""
    assert breaker.leave() is Leave.ASK
    breaker.answered()
    assert breaker.leave() is Leave.ASK


def test_a_silent_server_is_left_alone(breaker: Breaker, clock: Clock) -> None:
    """After one waited in vain nobody asks, until the rest is over."""
    breaker.silent()
    clock.now_s += 1.99

    assert breaker.leave() is Leave.REST


def test_one_tries_at_a_time(breaker: Breaker, clock: Clock) -> None:
    """Then one may try, and the others do without until it is known how that went."""
    breaker.silent()
    clock.now_s += 2

    assert [breaker.leave() for _ in range(3)] == [Leave.TRY, Leave.REST, Leave.REST]
    clock.now_s += 100
    assert breaker.leave() is Leave.REST


def test_an_answer_lets_all_ask(breaker: Breaker, clock: Clock) -> None:
    """Where the try is answered, everybody asks as before."""
    breaker.silent()
    clock.now_s += 2
    breaker.leave()
    breaker.answered()

    assert [breaker.leave() for _ in range(3)] == [Leave.ASK] * 3


def test_another_try_in_vain(breaker: Breaker, clock: Clock) -> None:
    """Where it is not, the rest begins anew, and then one may try again."""
    breaker.silent()
    clock.now_s += 2
    breaker.leave()
    breaker.silent()

    assert breaker.leave() is Leave.REST
    clock.now_s += 2
    assert breaker.leave() is Leave.TRY
