"""`app.extension`: EventStream on applications, with their logs and their configuration."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from flask import Flask, Response

from flask_eventstream import (
    EventStream,
    InvalidConfig,
    Publisher,
    sse,
)
from flask_eventstream.app.settings import state_of
from flask_eventstream.brokers.memory import MemoryBroker
from flask_eventstream.hub.hub import Stats
from harness.hand_server import HandServer
from harness.small_apps import an_app, reading

# ---- logs


def test_the_default_log_is_in_the_instance_folder(tmp_path: Path) -> None:
    """Without a URL the log is a file in the instance folder, which is made."""
    app = Flask("app_under_test", instance_path=str(tmp_path / "deep" / "instance"))
    events = EventStream(app)
    with reading(app) as page:
        events.publish("x")
        page.got("x")

    folder = tmp_path / "deep" / "instance"
    (file,) = folder.glob("*.db")
    assert file.name == "eventstream-app_under_test.db"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_two_applications_in_one_folder_share_nothing(tmp_path: Path) -> None:
    """Each application has a file of its own by default, whatever its name has in it."""
    names = ("shop.public", "shop.admin", "shop/admin")
    urls = set()
    for name in names:
        app = Flask(name, instance_path=str(tmp_path), root_path=str(tmp_path))
        urls.add(state_of(app, EventStream(app)).broker.url)

    assert len(urls) == len(names)
    assert all(url.startswith(f"sqlite:///{tmp_path}/eventstream-shop") for url in urls)


@pytest.mark.parametrize("scheme", ["memory", "sqlite"])
def test_the_streams_of_an_application_share_its_log(tmp_path: Path, scheme: str) -> None:
    """Two EventStreams of one application read what either publishes, in memory, too."""
    url = "memory://" if scheme == "memory" else f"sqlite:///{tmp_path}/events.db"
    app = an_app(SSE_BROKER_URL=url)
    first, second = EventStream(name="first"), EventStream(name="second")
    app.register_blueprint(first, url_prefix="/first")
    app.register_blueprint(second, url_prefix="/second")
    with app.app_context(), reading(app, "/second") as page:
        first.publish("x")
        page.got("x")


def test_an_instance_folder_that_can_not_be_made_is_explained(tmp_path: Path) -> None:
    """Where the instance folder can't be made the error names it and the key to set."""
    (tmp_path / "file").touch()
    app = Flask("app_under_test", instance_path=str(tmp_path / "file" / "instance"))

    with pytest.raises(InvalidConfig, match=r"SSE_BROKER_URL is not set.*instance"):
        EventStream(app)


def test_a_publisher_on_the_same_file_reaches_the_readers(tmp_path: Path) -> None:
    """What a script publishes to the file reaches the application's readers."""
    url = f"sqlite:///{tmp_path}/events.db"
    app = an_app(SSE_BROKER_URL=url)
    EventStream(app)
    with reading(app) as page:
        Publisher(url).publish({"from": "a script"})
        page.got('{"from": "a script"}')


def test_two_applications_on_one_file_are_one(tmp_path: Path) -> None:
    """Applications that name the same file share its events and its history."""
    url = f"sqlite:///{tmp_path}/events.db"
    first, second = an_app("first", SSE_BROKER_URL=url), an_app("second", SSE_BROKER_URL=url)
    of_first, of_second = EventStream(first), EventStream(second)
    seen = of_first.publish("a")
    of_first.publish("b")
    with reading(second, **{"Last-Event-ID": seen}) as page:
        of_second.publish("c")
        page.got("b", "c")


# ---- configuration


def test_mistakes_are_reported_together() -> None:
    """All mistakes of a configuration come in one error, each with its key."""
    app = an_app(SSE_HEARTBEAT_S="soon", SSE_RETRY_MS=-1, SSE_HANDOFF="maybe", SSE_PUBLIC=5)

    with pytest.raises(InvalidConfig) as caught:
        EventStream(app)

    assert {problem.split()[0] for problem in caught.value.problems} == {
        "SSE_HEARTBEAT_S",
        "SSE_RETRY_MS",
        "SSE_HANDOFF",
        "SSE_PUBLIC",
    }


def test_a_mistake_is_repeated_at_every_use() -> None:
    """A mistake that is made after registration meets the first use, and each one after it."""
    app = an_app()
    events = EventStream()
    app.register_blueprint(events)
    app.config["SSE_HEARTBEAT_S"] = "soon"
    for _ in range(2):
        with pytest.raises(InvalidConfig, match="SSE_HEARTBEAT_S"):
            events.publish("x")


@pytest.mark.parametrize("url", ["memory", "mysql://host", "sqlite://", "sqlite:///:memory:"])
def test_an_unknown_broker_is_a_mistake(url: str) -> None:
    """A URL that names no broker raises, with the key and the URL."""
    with pytest.raises(InvalidConfig, match=f"SSE_BROKER_URL is '{url}'"):
        EventStream(an_app(SSE_BROKER_URL=url))


def test_registration_makes_no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A factory that makes many applications leaves nothing of a broker behind."""
    made: list[object] = []
    monkeypatch.setattr(MemoryBroker, "__init__", lambda broker, *_, **__: made.append(broker))
    an_app().register_blueprint(EventStream())

    assert made == []


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize(
    "key", ["SSE_CHANNEL", "SSE_RETRY", "SSE_HEARTBEAT", "SSE_BROKER", "SSE_REDIS_PASSWORD"]
)
def test_a_key_of_the_applications_own_stops_nothing(
    caplog: pytest.LogCaptureFixture, key: str
) -> None:
    """A key that is nearly one of ours is named in the log, once, and everything works."""
    app = an_app(SSE_PUBLIC=True, **{key: "hunter2"})
    app.register_blueprint(EventStream(name="first"), url_prefix="/first")
    app.register_blueprint(EventStream())
    (warning,) = warnings_of(caplog)
    with reading(app) as page:
        with app.app_context():
            sse.publish("x")
        page.got("x")

    assert warning.startswith(f"{key} is not read")
    assert "hunter2" not in warning
    assert warnings_of(caplog) == [warning]


@pytest.mark.parametrize("key", ["SSE_BROKER_URL", "SSE_REDIS_URL", "REDIS_URL"])
@pytest.mark.parametrize("value", [None, ""])
def test_a_url_that_is_empty_is_said(
    caplog: pytest.LogCaptureFixture, tmp_path: Path, key: str, value: str | None
) -> None:
    """Where the broker's URL is there and empty, the log says which file is used instead."""
    app = Flask("app_under_test", instance_path=str(tmp_path))
    app.config[key] = value
    if key == "SSE_BROKER_URL" and value == "":
        with pytest.raises(InvalidConfig, match="SSE_BROKER_URL is '', but must be a URL"):
            EventStream(app)
        return
    EventStream(app)
    (warning,) = warnings_of(caplog)

    assert warning.startswith(f"{key} is {value!r}, so events are kept in sqlite:///{tmp_path}")


@pytest.mark.parametrize("key", ["SSE_BROKER_URL", "FLASK_SSE_BROKER_URL"])
def test_an_environment_that_nobody_reads_is_said(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key: str
) -> None:
    """A URL in the environment alone is named in the log, with the line that reads it."""
    monkeypatch.setenv(key, "redis://:hunter2@host")
    EventStream(Flask("app_under_test", instance_path=str(tmp_path)))
    (warning,) = warnings_of(caplog)

    assert warning.startswith(f"{key} is set in the environment, and the application does not read")
    assert "app.config.from_prefixed_env()" in warning
    assert "hunter2" not in warning


def test_an_environment_that_is_read_is_fine(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who reads the environment, or names the broker otherwise, is told nothing."""
    monkeypatch.setenv("FLASK_SSE_BROKER_URL", "memory://")
    app = Flask("app_under_test")
    app.config.from_prefixed_env()
    EventStream(app)

    assert caplog.messages == []


# ---- counting


def test_statistics_are_the_applications_own() -> None:
    """Each application counts its own streams, and starts at nothing."""
    events = EventStream()
    first, second = an_app("first"), an_app("second")
    for app in (first, second):
        app.register_blueprint(events)
    with reading(first):
        with first.app_context():
            assert events.stats().streams == 1
        with second.app_context():
            assert events.stats() == Stats(0, 0, 0, {})


def test_a_view_may_answer_with_a_stream() -> None:
    """`response` is what a view returns, and `after_request` still applies to it."""
    app = an_app()
    events = EventStream(app)

    @app.get("/numbers")
    def numbers() -> Response:
        return events.response(range(1, 7))

    @app.after_request
    def add(response: Response) -> Response:
        response.headers["X-After"] = "request"
        return response

    with HandServer(app).request("/numbers") as page:
        page.end()

        assert page.headers["x-after"] == "request"
        assert [json.loads(each) for each in page.data] == [1, 2, 3, 4, 5, 6]


def test_the_global_object_publishes_for_an_extension_of_its_name() -> None:
    """In an app that was given to `EventStream(app)`, `sse` publishes to that one's readers."""
    app = Flask("shop")
    app.config["SSE_BROKER_URL"] = "memory://"
    stream = EventStream(app)

    with app.app_context():
        assert sse._state() is stream._state()
