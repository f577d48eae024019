"""`app.settings`: checked at registration, used for the state at the first use."""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Flask

from flask_eventstream import EventStream, InvalidConfig
from flask_eventstream.app.settings import check_settings, state_of


def an_app(folder: Path | None = None, **settings: object) -> Flask:
    app = Flask(__name__, instance_path=str(folder) if folder else None)
    app.config.update(SSE_PUBLIC=True, **settings)
    return app


def test_mistakes_are_found_at_once() -> None:
    """A value that can't be one is refused before anything is opened."""
    with pytest.raises(InvalidConfig, match=r"SSE_RETRY_MS .* SSE_BROKER_URL|SSE_RETRY_MS"):
        check_settings(an_app(SSE_RETRY_MS="soon"))
    with pytest.raises(InvalidConfig, match="SSE_BROKER_URL"):
        check_settings(an_app(SSE_BROKER_URL="carrier-pigeon://loft"))


def test_a_check_opens_nothing(tmp_path: Path) -> None:
    """To look at the settings makes no file."""
    check_settings(an_app(tmp_path, SSE_BROKER_URL=f"sqlite:///{tmp_path}/events.db"))

    assert list(tmp_path.iterdir()) == []


def test_streams_of_an_application_share_a_broker() -> None:
    """Two EventStreams of one application have a state each, and one log."""
    app = an_app(SSE_BROKER_URL="memory://")
    first, second = EventStream(name="first"), EventStream(name="second")

    assert state_of(app, first) is state_of(app, first)
    assert state_of(app, first) is not state_of(app, second)
    assert state_of(app, first).broker is state_of(app, second).broker


@pytest.mark.parametrize("url", [None, ""])
def test_an_empty_address_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, url: str | None
) -> None:
    """A REDIS_URL that names nothing is said to be so, with the file that is used instead."""
    state_of(an_app(tmp_path, REDIS_URL=url), EventStream())

    file = f"sqlite:///{tmp_path}/eventstream-{__name__}.db"
    said = f"REDIS_URL is {url!r}, so events are kept in {file}, which this machine alone can read"

    assert [record.getMessage() for record in caplog.records] == [said]
