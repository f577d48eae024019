"""`flask_eventstream.access.ticket`: who is told how a server holds its streams."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from itsdangerous import Signer

from flask_eventstream import EventStream, Publisher
from flask_eventstream.access.ticket import (
    HEADER,
    TICKET_S,
    is_good,
    is_own_channel,
    make_own_channel,
    make_ticket,
    sign_ticket,
)

KEY = "the app's own"
NOW_S = 1_800_000_000.0


def never(_ticket: str) -> bool:
    return False


def always(_ticket: str) -> bool:
    return True


def test_a_doctors_own_channel() -> None:
    """Only what a doctor makes is its own channel: not a ticket, nor what is nearly one."""
    own = make_own_channel()

    assert is_own_channel(own)
    assert own != make_own_channel()
    for other in (own.upper(), f"{own} ", own[:-1], f"{own}0", f"x{own}", make_ticket(NOW_S)):
        assert not is_own_channel(other)


def test_a_signed_ticket_is_good() -> None:
    """A ticket with the application's signature is good, whatever its log knows."""
    assert is_good(sign_ticket(make_ticket(NOW_S), KEY), key=KEY, now_s=NOW_S, has_ended=never)


@pytest.mark.parametrize("signed_with", [KEY, "another", None])
def test_an_ended_channel_is_good(signed_with: str | None) -> None:
    """A ticket whose channel is ended in the log is good, whatever its signature."""
    assert is_good(
        sign_ticket(make_ticket(NOW_S), signed_with), key=KEY, now_s=NOW_S, has_ended=always
    )


# By name: what is made anew in each process has no place in a test's name.
STRANGERS = {
    "nothing": "",
    "unsigned": make_ticket(NOW_S),
    "another key": sign_ticket(make_ticket(NOW_S), "another"),
    "cut short": sign_ticket(make_ticket(NOW_S), KEY)[:-1],
    "no digits": sign_ticket("sse-doctor-ticket-", KEY),
    "another salt": Signer(KEY).sign(make_ticket(NOW_S)).decode(),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_a_stranger_has_none(name: str) -> None:
    """Without signature and ended channel nothing is a ticket, nor is another kind of signature."""
    assert not is_good(STRANGERS[name], key=KEY, now_s=NOW_S, has_ended=never)
    assert not is_good(STRANGERS[name], key=None, now_s=NOW_S, has_ended=never)


@pytest.mark.parametrize(
    "channel", ["auction-5", "a" * len(make_ticket(NOW_S)), "sse-doctor-ticket-1"]
)
def test_a_channel_of_the_apps_own_is_no_ticket(channel: str) -> None:
    """That a channel anybody may know is ended makes nobody the owner."""
    assert not is_good(channel, key=None, now_s=NOW_S, has_ended=always)


@pytest.mark.parametrize("later_s", [-TICKET_S, TICKET_S])
def test_a_ticket_is_good_for_a_while(later_s: float) -> None:
    """Clocks may differ, and a run of the doctor takes its time."""
    ticket = make_ticket(NOW_S)

    assert is_good(ticket, key=None, now_s=NOW_S + later_s, has_ended=always)


@pytest.mark.parametrize("later_s", [-TICKET_S - 1, TICKET_S + 1])
@pytest.mark.parametrize("has_ended", [always, never])
def test_a_ticket_grows_old(later_s: float, has_ended: Callable[[str], bool]) -> None:
    """What was found in some log a while later is worth nothing, ended channel or signature."""
    shown = sign_ticket(make_ticket(NOW_S), KEY)

    assert not is_good(shown, key=KEY, now_s=NOW_S + later_s, has_ended=has_ended)


# ---- what the server says


@pytest.fixture
def told(tmp_path: Path) -> Callable[[str | None], Any]:
    """Asks an application for the head of its stream, and gives what it says of itself."""
    app = Flask("app_under_test")
    app.config.update(SSE_BROKER_URL=f"sqlite:///{tmp_path}/events.db", SECRET_KEY=KEY)
    EventStream(app)

    def ask(shown: str | None) -> Any:
        headers = {} if shown is None else {HEADER: shown}
        with app.test_client() as client, client.head("/stream", headers=headers) as response:
            assert response.status_code == 200
            return response.headers.get(HEADER)

    return ask


def test_strangers_are_told_nothing(told: Callable[[str | None], Any]) -> None:
    """A head has nothing of the server's inside for who has no ticket, or a bad one."""
    assert told(None) is None
    assert told(make_ticket(time.time())) is None
    assert told(sign_ticket(make_ticket(time.time()), "another")) is None


def test_the_doctor_is_told(told: Callable[[str | None], Any], tmp_path: Path) -> None:
    """A head says to the doctor who answers, from which broker, and how often hearts beat."""
    said = json.loads(told(sign_ticket(make_ticket(time.time()), KEY)))

    assert said["broker"] == f"sqlite:///{tmp_path}/events.db"
    assert said["heartbeat_s"] == 15.0
    assert said.keys() >= {"pid", "server", "several", "lifetime_s"}


def test_a_ticket_is_void_after_its_use(told: Callable[[str | None], Any], tmp_path: Path) -> None:
    """An unsigned ticket is good while its channel is ended, and no longer."""
    ticket = make_ticket(time.time())
    publisher = Publisher(f"sqlite:///{tmp_path}/events.db")
    publisher.end(ticket)
    during = told(ticket)
    publisher.publish("", channel=ticket)

    assert during is not None
    assert told(ticket) is None
