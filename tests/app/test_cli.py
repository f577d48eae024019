"""`flask sse`: as a command of its own, and with Click's runner."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Blueprint, Flask

from flask_eventstream import EventStream, Grant, Publisher
from flask_eventstream.access.orders import Order
from flask_eventstream.app import cli
from flask_eventstream.app.cli import group
from flask_eventstream.hub.tail import Gap
from harness.hand_server import HandServer
from harness.waiting import wait_until

pytestmark = pytest.mark.real

APP = """
from flask import Blueprint, Flask
from flask_eventstream import sse

app = Flask(__name__)
app.config["SSE_BROKER_URL"] = "sqlite:///events.db"
app.register_blueprint(sse, url_prefix="/stream")
"""

WITHIN_S = 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an application in app.py."""
    (tmp_path / "app.py").write_text(APP, encoding="utf-8")
    return tmp_path


@pytest.fixture
def publisher(folder: Path) -> Publisher:
    """A publisher on that application's file."""
    return Publisher(f"sqlite:///{folder}/events.db")


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "flask", "--app", "app", "sse", *args]


def run(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*args),
        cwd=folder,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=WITHIN_S,
        check=False,
    )


class Listening:
    """A `flask sse listen` that runs, and what it has printed."""

    def __init__(self, folder: Path, *channels: str) -> None:
        self._output, self._errors = folder / "output", folder / "errors"
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                # As in a terminal. A shell ignores SIGINT for what it runs in the background, such
                # as these tests, and children inherit that.
                ["env", "--default-signal=INT", *command("listen", *channels)],
                cwd=folder,
                stdout=output,
                stderr=errors,
                env={**os.environ, "PYTHONIOENCODING": "utf-8"},
            )

    @property
    def errors(self) -> str:
        return self._errors.read_text(encoding="utf-8")

    @property
    def output(self) -> str:
        return self._output.read_text(encoding="utf-8")

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.split("\n")[:-1]]


@contextmanager
def listening(folder: Path, *channels: str) -> Iterator[Listening]:
    """Run `flask sse listen` until the block ends; begins when it listens."""
    listener = Listening(folder, *channels)
    try:
        wait_until(lambda: "Listening" in listener.errors, within_s=WITHIN_S, what="listening")
        yield listener
    finally:
        listener.process.kill()
        listener.process.wait(WITHIN_S)


def invoke(app: Flask, *args: str) -> Result:
    return app.test_cli_runner().invoke(group, args)


def an_app(**config: Any) -> Flask:
    app = Flask("app_under_test")
    app.config.update({"SSE_BROKER_URL": "memory://", **config})
    return app


# ---- commands of their own


def test_publish_reaches_the_readers(folder: Path) -> None:
    """`flask sse publish` prints the event's id, and a reader of the file gets the event."""
    app = an_app(SSE_BROKER_URL=f"sqlite:///{folder}/events.db")
    EventStream(app)
    with HandServer(app).request("/stream?channel=news") as page:
        page.opened()
        done = run(folder, "publish", "news", "héllo", "--type", "t", "--id", "own")
        page.got("héllo")

        assert page.events[0]["type"] == "t"
        assert page.events[0]["id"] == "own"

    assert (done.returncode, done.stdout, done.stderr) == (0, "own\n", "")


def test_who_counts_the_readers_of_all_processes(folder: Path) -> None:
    """`flask sse who` prints the streams and subjects of another process's readers."""
    app = an_app(SSE_BROKER_URL=f"sqlite:///{folder}/events.db")
    stream = EventStream(app)
    stream.channel("news")(lambda: Grant(subject="7"))
    server = HandServer(app)
    with (
        server.request("/stream?channel=news") as one,
        server.request("/stream?channel=news") as two,
    ):
        one.opened()
        two.opened()
        done = run(folder, "who", "news")

    assert (done.returncode, done.stdout, done.stderr) == (0, "streams 2\nsubjects 1\n", "")


def test_who_refuses_a_bad_name() -> None:
    """A name that no channel can have is refused in words."""
    app = an_app()
    EventStream(app)
    done = invoke(app, "who", "__control")

    assert done.exit_code == 1
    assert "begins with two underscores" in done.output


def test_listen_prints_each_event(folder: Path, publisher: Publisher) -> None:
    """`flask sse listen` prints a JSON object per event as it comes, from when it says so."""
    with listening(folder, "news", "logs") as listener:
        ids = [
            publisher.publish("héllo\nworld", channel="news"),
            publisher.publish({"a": 1}, type="t", id="own", channel="logs"),
        ]
        publisher.publish("unheard", channel="other")
        publisher.end("news")
        wait_until(lambda: len(listener.lines) >= 3, within_s=WITHIN_S, what="three lines")

        assert listener.lines[:2] == [
            {"channel": "news", "id": ids[0], "type": "message", "data": "héllo\nworld"},
            {"channel": "logs", "id": "own", "type": "t", "data": '{"a": 1}'},
        ]
        assert listener.lines[2].items() >= {
            ("channel", "news"),
            ("type", "stream-end"),
            ("data", None),
        }
        assert listener.errors.startswith("Listening to news, logs on sqlite:///")


def test_listen_says_what_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the log lost is a line of type `stream-reset` for each channel."""
    app = an_app()
    EventStream(app)
    gap = Gap(frozenset({"b", "a"}), "p-7")
    monkeypatch.setattr(cli, "read_entries", lambda *_: iter([gap]))

    result = invoke(app, "listen", "a", "b")

    # Click before 8.2 gives what went to stderr in between.
    lines = [line for line in result.stdout.splitlines() if line.startswith("{")]
    assert [json.loads(line) for line in lines] == [
        {"channel": channel, "id": "p-7", "type": "stream-reset", "data": None}
        for channel in ("a", "b")
    ]


def test_end_ends_the_channel(folder: Path) -> None:
    """`flask sse end` ends a channel for those who listen to it."""
    with listening(folder, "news") as listener:
        done = run(folder, "end", "news")
        wait_until(lambda: listener.lines, within_s=WITHIN_S, what="the end")

        assert listener.lines[0]["type"] == "stream-end"

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_disconnect_orders_it(folder: Path) -> None:
    """`flask sse disconnect` leaves an order in the log; without a channel and subject it asks."""
    done = run(folder, "disconnect", "--channel", "news", "--subject", "7")
    neither = run(folder, "disconnect")
    bad = run(folder, "disconnect", "--channel", "__control")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    (file,) = folder.rglob("*.db")
    with contextlib.closing(sqlite3.connect(file)) as log:
        rows = log.execute("SELECT channel, data FROM sse_events").fetchall()
    assert [(c, Order.decode(text)) for c, text in rows] == [("__control", Order("news", "7"))]
    assert neither.returncode == 2
    assert "give --channel, --subject, or both" in neither.stderr
    assert bad.returncode == 1


def test_listen_can_be_interrupted(folder: Path) -> None:
    """Ctrl-C ends `flask sse listen` soon, as a shell expects it, and says nothing."""
    with listening(folder, "news") as listener:
        listener.process.send_signal(signal.SIGINT)
        began_s = time.monotonic()

        assert listener.process.wait(WITHIN_S) == 128 + signal.SIGINT
        assert time.monotonic() - began_s < 5
        assert len(listener.errors.splitlines()) == 1  # that it listens


def test_listen_prints_nothing_that_a_terminal_obeys(folder: Path, publisher: Publisher) -> None:
    """Whatever is in an event, its line has no control character, and is the same JSON."""
    text = "a\x1b[2Jb\x7fc\x9b31md\u202ee\u2028f żółć 🙂 \U000e0001"
    with listening(folder, "news\x9b1m") as listener:
        publisher.publish(text, type="\x9bt", channel="news\x9b1m")
        wait_until(lambda: listener.lines, within_s=WITHIN_S, what="a line")

        assert listener.lines[0].items() >= {("data", text), ("type", "\x9bt")}
        assert "żółć 🙂" in listener.output
        assert all(character.isprintable() or character == "\n" for character in listener.output)
        assert all(character.isprintable() or character == "\n" for character in listener.errors)


@pytest.mark.parametrize(
    "args", [("publish", "a\nb", "x"), ("listen", "ok", "a\nb"), ("end", "a\nb")]
)
def test_a_mistake_is_one_line(folder: Path, args: tuple[str, ...]) -> None:
    """A bad channel ends a command with one line that says why."""
    done = run(folder, *args)

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == ("Error: channel 'a\\nb': has a control character: use printable text\n")


def test_the_commands_are_listed(folder: Path) -> None:
    """`flask sse` lists its commands, so the package's entry point is found."""
    done = run(folder, "--help")

    assert done.returncode == 0
    assert "publish" in done.stdout
    assert "listen" in done.stdout
    assert "doctor" in done.stdout


# ---- with Click's runner


@pytest.mark.parametrize("args", [("publish", "a", "x"), ("listen", "a")])
def test_an_app_without_an_event_stream(args: tuple[str, ...]) -> None:
    """An application without an EventStream gets one line that says how to add one."""
    result = invoke(an_app(), *args)

    assert result.exit_code == 1
    assert result.output == (
        "Error: this app has no EventStream: app.register_blueprint(sse, url_prefix='/stream')\n"
    )


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (
            ("publish", "a", "x", "--type", "a\nb"),
            "Error: event type 'a\\nb': contains a line feed",
        ),
        (("publish", "a", "x" * 20), "Error: event data 'xxxxxxxxxxxxxxxxxxxx': is 20 bytes"),
        (("publish", "", "x"), "Error: channel '': is empty"),
        (("listen", ""), "Error: channel '': is empty"),
    ],
)
def test_each_mistake_is_explained(args: tuple[str, ...], why: str) -> None:
    """What can't be published or read ends the command with one line."""
    app = an_app(SSE_MAX_EVENT_BYTES=10)
    EventStream(app)
    result = invoke(app, *args)

    assert result.exit_code == 1
    assert result.output.startswith(why)
    assert result.output.count("\n") == 1


def test_a_wrong_configuration_is_explained() -> None:
    """Mistakes in the configuration end a command with one line that names the key."""
    app = an_app()
    app.register_blueprint(EventStream())
    app.config["SSE_HEARTBEAT_S"] = "soon"
    result = invoke(app, "publish", "a", "x")

    assert result.exit_code == 1
    assert "SSE_HEARTBEAT_S is 'soon'" in result.output
    assert result.output.count("\n") == 1


def test_a_log_that_is_away_is_explained(tmp_path: Path) -> None:
    """A log that can't be written ends `publish` with one line that names it."""
    app = an_app(SSE_BROKER_URL=f"sqlite:///{tmp_path}/missing/events.db")
    EventStream(app)
    result = invoke(app, "publish", "a", "x")

    assert result.exit_code == 1
    assert f"broker sqlite:///{tmp_path}/missing/events.db is unavailable" in result.output
    assert result.output.count("\n") == 1


def test_data_is_sent_as_it_is() -> None:
    """What looks like JSON is text, as it was typed."""
    app = an_app()
    events = EventStream(app)
    with HandServer(app).request() as page:
        page.opened()
        invoke(app, "publish", "sse", '{"a":  1}')
        page.got('{"a":  1}')

        assert events.stats().streams == 1


@pytest.mark.parametrize(
    ("names", "args", "heard"),
    [
        (["other"], (), "other"),
        (["other", "sse"], (), "sse"),
        (["other", "sse"], ("--name", "other"), "other"),
    ],
)
def test_which_event_stream_is_meant(names: list[str], args: tuple[str, ...], heard: str) -> None:
    """Of several it is the named one, else `sse`, else the first."""
    app = an_app()
    for name in names:
        EventStream(name=name).init_app(app, url_prefix=f"/{name}")
    with HandServer(app).request(f"/{heard}") as page:
        page.opened()
        result = invoke(app, "publish", "sse", "x", *args)
        page.got("x")

    assert result.exit_code == 0


def test_an_unknown_name_is_explained() -> None:
    """A name that the application does not have is answered with those that it has."""
    app = an_app()
    EventStream(app)
    result = invoke(app, "publish", "sse", "x", "--name", "nobody")

    assert result.exit_code == 1
    assert result.output == "Error: this app has no EventStream 'nobody'; it has sse\n"


# ---- the doctor


def test_the_doctor_looks_at_the_app_alone(folder: Path) -> None:
    """Without an address `flask sse doctor` says what can be seen of the app, and ends with 0."""
    done = run(folder, "doctor")

    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == (
        f"  ok      the broker takes events: sqlite:///{folder}/events.db\n"
        "  ok      uvloop is there\n"
        "\nProblems: 0. Advice: 0.\n"
    )


def test_a_problem_is_an_exit_code(tmp_path: Path) -> None:
    """A problem ends `flask sse doctor` with 1, and is explained."""
    app = an_app(SSE_BROKER_URL=f"sqlite:///{tmp_path}/missing/events.db")
    EventStream(app)
    result = invoke(app, "doctor")

    assert result.exit_code == 1
    assert "  problem The broker takes no events\n" in result.output
    assert result.output.endswith("\nProblems: 1. Advice: 0.\n")


def test_a_python_without_uvloop_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where uvloop could be installed and is not, there is the line that installs it."""
    app = an_app()
    EventStream(app)
    monkeypatch.setitem(sys.modules, "uvloop", None)
    result = invoke(app, "doctor")

    assert result.exit_code == 1
    assert "pip install uvloop\n" in result.output


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (("shop.example/stream",), "write http://host/stream or https://host/stream"),
        (("ftp://shop.example",), "write http://host/stream or https://host/stream"),
        (("http://shop.example:x",), "Port could not be cast to integer"),
        (("http://shop.example/é",), "write http://host/stream"),
        (("http://shop.example", "--header", "Cookie"), "'Cookie' is no header"),
        (("http://shop.example", "--header", "A: b\r\nC: d"), "is no header"),
        (("http://shop.example", "--channel", "a\nb"), "has a control character"),
    ],
)
def test_what_the_doctor_can_not_ask(args: tuple[str, ...], why: str) -> None:
    """An address, a header or a channel that is none ends the command before anything is asked."""
    app = an_app()
    EventStream(app)
    result = invoke(app, "doctor", *args)

    assert result.exit_code in {1, 2}
    assert why in result.output
    assert "Traceback" not in result.output


def test_the_doctor_finds_the_stream_of_a_nested_blueprint() -> None:
    """The path of the stream is the app's own, also where a blueprint is inside another."""
    app = an_app()
    site = Blueprint("site", __name__, url_prefix="/site")
    site.register_blueprint(EventStream(), url_prefix="/events")
    app.register_blueprint(site)
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        result = invoke(app, "doctor", f"http://127.0.0.1:{nobody.getsockname()[1]}")

    assert result.exit_code == 1
    assert "Nobody listens on port" in result.output
