"""Every example, as a person uses it, in real Chromium."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.servers import Server
from harness.streams import get, post
from harness.waiting import wait_until
from live.browser.chromium import Tab

EXAMPLES = Path(__file__).parents[3] / "examples"

FORM = {"content-type": "application/x-www-form-urlencoded"}

Example = Callable[..., Server]
NewTab = Callable[[], Tab]


@pytest.fixture
def example(serve: Callable[..., Server], tmp_path: Path) -> Example:
    """Serves an example with its default settings: `example(name, kind)`.

    It runs from a copy, so that its instance folder is the test's own. The copy stays for a second
    server at the same place.
    """

    def start(name: str, kind: str, *options: str, port: int = 0) -> Server:
        copy = tmp_path / name
        if not copy.exists():
            made = shutil.ignore_patterns("instance", "__pycache__")
            shutil.copytree(EXAMPLES / name, copy, ignore=made)
        return serve(kind, "app:app", cwd=copy, options=options, port=port)

    return start


@contextmanager
def only(worker: int, server: Server) -> Iterator[None]:
    """Stops every other worker for a while, so that this one answers. They go on afterwards."""
    others = [pid for pid in server.worker_pids() if pid != worker]
    for pid in others:
        server.signal(signal.SIGSTOP, pid)
    try:
        wait_until(lambda: all(map(stands_still, others)), what="the other workers to stand still")
        yield
    finally:
        for pid in others:
            server.signal(signal.SIGCONT, pid)


def stands_still(pid: int) -> bool:
    """Whether a process is stopped: its state in /proc/PID/stat is T (proc(5))."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    return after_name.split()[0] == "T"


def join(tab: Tab, server: Server, name: str) -> None:
    """Enters the chat as a person does: the first page asks for a name."""
    tab.open(server.url)
    tab.type("#user", name)
    tab.click("button")
    tab.wait_text("#state", "Live")


def say(tab: Tab, text: str) -> None:
    tab.type("#message", text)
    tab.click("#composer button")


def wait_messages(tab: Tab, *texts: str) -> None:
    """Waits for so many messages in the chat, and compares them."""
    wait_until(
        lambda: len(tab.texts(".message .text")) >= len(texts), what=f"{len(texts)} messages"
    )

    assert tab.texts(".message .text") == list(texts)


def test_chat_crosses_workers(example: Example, new_tab: NewTab) -> None:
    """Two people on two sync workers chat, whichever worker holds a stream or takes a message."""
    server = example("chat", "gunicorn-sync", "--workers", "2")
    wait_until(lambda: len(server.worker_pids()) == 2, what="two workers")
    first, second = server.worker_pids()
    ada, bob = new_tab(), new_tab()
    with only(first, server):
        join(ada, server, "Ada")
    with only(second, server):
        join(bob, server, "Bob")

    # Whose stream is on the worker that takes the message sees it while the other worker sleeps.
    with only(first, server):
        say(ada, "one")
        wait_messages(ada, "one")
    wait_messages(bob, "one")
    with only(second, server):
        say(ada, "two")
        wait_messages(bob, "one", "two")
    wait_messages(ada, "one", "two")
    with only(first, server):
        say(bob, "three")
        wait_messages(ada, "one", "two", "three")
    wait_messages(bob, "one", "two", "three")
    with only(second, server):
        say(bob, "four")
        wait_messages(bob, "one", "two", "three", "four")
    wait_messages(ada, "one", "two", "three", "four")

    assert "Traceback" not in server.log()


def test_chat_names_the_sender(example: Example, new_tab: NewTab) -> None:
    """A message stands under the name of its sender, and the sender's own on the other side."""
    server = example("chat", "werkzeug")
    ada, bob = new_tab(), new_tab()
    join(ada, server, "Ada")
    join(bob, server, "Bob")

    say(ada, "Hello")
    wait_messages(ada, "Hello")
    wait_messages(bob, "Hello")

    assert bob.texts(".message:not(.mine) .user") == ["Ada"]
    assert ada.texts(".message.mine .text") == ["Hello"]


def test_chat_shows_text_only(example: Example, tab: Tab) -> None:
    """Markup in a message or a name is shown as it was typed, and nothing of it runs."""
    markup = "<img src=x onerror='document.title = \"taken\"'>"
    join(tab, example("chat", "werkzeug"), "<b>Eve</b>")
    say(tab, markup)
    wait_messages(tab, markup)

    assert tab.text(".who strong") == "<b>Eve</b>"
    assert tab.run("return document.querySelectorAll('img, b').length") == 0
    assert tab.run("return document.title") == "Chat"


def test_chat_comes_back(example: Example, tab: Tab) -> None:
    """The page says that it reconnects while the server is away, and is live again by itself."""
    server = example("chat", "gunicorn-sync")
    join(tab, server, "Ada")
    server.kill()
    tab.wait_text("#state", "Reconnecting")
    example("chat", "gunicorn-sync", port=server.port)
    tab.wait_text("#state", "Live", within_s=20)

    say(tab, "Hello again")
    wait_messages(tab, "Hello again")


def test_chat_gives_a_message_back(example: Example, tab: Tab) -> None:
    """A message that could not be sent stays in the field, and the page says so."""
    server = example("chat", "gunicorn-sync")
    join(tab, server, "Ada")
    server.kill()
    say(tab, "Is anybody there?")

    tab.wait_text(".note", "That message was not sent. Please try again.")
    assert tab.run("return document.getElementById('message').value") == "Is anybody there?"


def test_chat_wants_a_name(example: Example, tab: Tab) -> None:
    """Whoever has no name yet is sent to the page that asks for it."""
    server = example("chat", "werkzeug")
    tab.open(server.url)

    assert tab.url == f"{server.url}/login"


def test_notifications_shows_answers(example: Example, tab: Tab) -> None:
    """An event `new_answers` becomes the line `question : value`."""
    tab.open(example("notifications", "werkzeug").url)
    tab.wait_text("#state", "Live")
    tab.type("[name=question]", "Tea?")
    tab.type("[name=value]", "With milk")
    tab.type("[name=who]", "Ada")
    tab.click("#ask button")

    tab.wait_text("#answers li", "Tea? : With milk\nfrom Ada")


def test_notifications_from_elsewhere(example: Example, tab: Tab) -> None:
    """A form that is sent from somewhere else sends an answer to the page; a link does not."""
    server = example("notifications", "gunicorn-sync")
    tab.open(server.url)
    tab.wait_text("#state", "Live")
    assert get(f"{server.url}/notifications?question=No").status == 405
    reply = post(
        f"{server.url}/notifications",
        b"question=Tea&value=yes&who=Bob",
        {"content-type": "application/x-www-form-urlencoded"},
    )

    assert reply.status == 202
    tab.wait_text("#answers li", "Tea : yes\nfrom Bob")


def test_notifications_closes(example: Example, tab: Tab) -> None:
    """On `server_closed` the page closes its stream for good."""
    tab.open(example("notifications", "werkzeug").url)
    tab.wait_text("#state", "Live")
    tab.click("#close")

    tab.wait_text("#state", "Closed: The server takes no more answers.")
    assert tab.run("return source.readyState === EventSource.CLOSED")


@pytest.mark.parametrize("kind", ["werkzeug", "gunicorn-gthread"])
def test_numbers_go_round(kind: str, example: Example, tab: Tab) -> None:
    """The page counts from 1 to 6 and begins again."""
    record = """
        window.shown = [];
        const number = document.getElementById("number");
        new MutationObserver(() => shown.push(Number(number.textContent)))
          .observe(number, { childList: true });"""
    tab.open(example("numbers", kind, *threads(kind)).url)
    tab.run(record)
    shown = wait_until(
        lambda: tab.run("return shown.length >= 8 && shown.slice(0, 8)"), what="eight numbers"
    )

    assert shown == [(shown[0] - 1 + step) % 6 + 1 for step in range(8)]


def threads(kind: str) -> list[str]:
    """A generator holds a thread while it runs, and the page needs one, too."""
    return ["--threads", "4"] if kind == "gunicorn-gthread" else []


def test_two_channels_refuses_the_guest(example: Example, tab: Tab) -> None:
    """A guest reads `sse`, and gets 403 for `logs`, also when it asks for both."""
    server = example("two_channels", "werkzeug")
    tab.open(server.url)
    tab.wait_text("#sse p", "Live")
    tab.wait_text("#logs p", "Not for you")
    tab.type("[name=text]", "Hello")
    tab.click("#say button")
    tab.wait_text("#sse li", "Hello")

    assert tab.texts("#logs li") == []
    assert get(f"{server.url}/stream?channel=logs").status == 403
    assert get(f"{server.url}/stream?channel=sse&channel=logs").status == 403


def test_two_channels_serves_the_admin(example: Example, tab: Tab) -> None:
    """The admin reads both channels, each event on its own side."""
    tab.open(example("two_channels", "gunicorn-sync").url)
    tab.click("header button")
    tab.wait_text("#user", "admin")
    tab.wait_text("#sse p", "Live")
    tab.wait_text("#logs p", "Live")
    tab.type("[name=text]", "Hello")
    tab.click("#say button")

    tab.wait_text("#sse li", "Hello")
    tab.wait_text("#logs li", '{"address": "127.0.0.1", "length": 5, "user": "admin"}')
    assert tab.texts("#sse li") == ["Hello"]
