"""`flask_eventstream.access.ticket`: who is told how a server holds its streams."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from itsdangerous import TimestampSigner

from flask_eventstream import EventStream, Publisher
from flask_eventstream.access.ticket import HEADER, TICKET_S, is_good, make_ticket, sign_ticket

KEY = "the app's own"


def never(_ticket: str) -> bool:
    return False


def always(_ticket: str) -> bool:
    return True


def test_a_signed_ticket_is_good() -> None:
    """A ticket with the application's signature is good, whatever its log knows."""
    assert is_good(sign_ticket(make_ticket(), KEY), key=KEY, has_ended=never)


@pytest.mark.parametrize("signed_with", [KEY, "another", None])
def test_an_ended_channel_is_good(signed_with: str | None) -> None:
    """A ticket whose channel is ended in the log is good, whatever its signature."""
    assert is_good(sign_ticket(make_ticket(), signed_with), key=KEY, has_ended=always)


# By name: what is made anew in each process has no place in a test's name.
STRANGERS = {
    "nothing": "",
    "unsigned": make_ticket(),
    "another key": sign_ticket(make_ticket(), "another"),
    "cut short": sign_ticket(make_ticket(), KEY)[:-1],
    "no digits": sign_ticket("sse-doctor-ticket-", KEY),
    "another salt": TimestampSigner(KEY).sign(make_ticket()).decode(),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_a_stranger_has_none(name: str) -> None:
    """Without signature and ended channel nothing is a ticket, nor is another kind of signature."""
    assert not is_good(STRANGERS[name], key=KEY, has_ended=never)
    assert not is_good(STRANGERS[name], key=None, has_ended=never)


@pytest.mark.parametrize("channel", ["auction-5", "a" * len(make_ticket()), "sse-doctor-ticket-1"])
def test_a_channel_of_the_apps_own_is_no_ticket(channel: str) -> None:
    """That a channel anybody may know is ended makes nobody the owner."""
    assert not is_good(channel, key=None, has_ended=always)


def test_a_signature_grows_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ticket that was found in some log a while later is worth nothing."""
    shown = sign_ticket(make_ticket(), KEY)
    now = TimestampSigner(KEY).get_timestamp()
    monkeypatch.setattr(TimestampSigner, "get_timestamp", lambda _self: now + TICKET_S + 2)

    assert not is_good(shown, key=KEY, has_ended=never)


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
    assert told(make_ticket()) is None
    assert told(sign_ticket(make_ticket(), "another")) is None


def test_the_doctor_is_told(told: Callable[[str | None], Any], tmp_path: Path) -> None:
    """A head says to the doctor who answers, from which broker, and how often hearts beat."""
    said = json.loads(told(sign_ticket(make_ticket(), KEY)))

    assert said["broker"] == f"sqlite:///{tmp_path}/events.db"
    assert said["heartbeat_s"] == 15.0
    assert said.keys() >= {"pid", "server", "several", "lifetime_s"}


def test_a_ticket_is_void_after_its_use(told: Callable[[str | None], Any], tmp_path: Path) -> None:
    """An unsigned ticket is good while its channel is ended, and no longer."""
    ticket = make_ticket()
    publisher = Publisher(f"sqlite:///{tmp_path}/events.db")
    publisher.close(ticket)
    during = told(ticket)
    publisher.publish("", channel=ticket)

    assert during is not None
    assert told(ticket) is None
