"""What the documentation says is so: snippets run, links lead somewhere, lists are whole.

A block of code below a comment that names a file, `<!-- docs/snippets/hello.py -->`, is a part of
that file, and the file is run here.
"""

from __future__ import annotations

import asyncio
import importlib.util
import re
import shutil
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

import flask_eventstream
from flask_eventstream import Publisher
from flask_eventstream.brokers import broker_from_url
from flask_eventstream.config import _READERS, _REDIS_KEYS, Config
from flask_eventstream.errors import EndReason
from flask_eventstream.log.entries import CONTROL_CHANNEL, Entry, Retention
from harness.hand_server import HandServer
from harness.ports import free_port
from harness.programs import program
from harness.redis_server import RedisServer, run_redis
from harness.servers import Server
from harness.stage import has_ended
from harness.streams import Reader, post
from harness.waiting import wait_until

pytestmark = pytest.mark.real

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
SNIPPETS = DOCS / "snippets"
PAGES = [ROOT / "README.md", ROOT / "CHANGES.md", ROOT / "SECURITY.md", *sorted(DOCS.rglob("*.md"))]
GUIDES = [
    ROOT / "README.md",
    DOCS / "tutorial.md",
    *sorted((DOCS / "how-to").glob("*.md")),
]

LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
BLOCK = re.compile(r"(?:<!-- (\S+) -->\n+)?^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ +(.+?)\s*$", re.MULTILINE)

Serve = Callable[..., Server]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def prose_of(page: Path) -> str:
    """The page without its blocks of code."""
    return BLOCK.sub("", text_of(page))


def anchors_of(page: Path) -> set[str]:
    """What may stand behind `#` in a link to the page, as GitHub makes it of headings."""
    headings = HEADING.findall(prose_of(page))
    return {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings
    }


def table_of(page: Path) -> dict[str, list[str]]:
    """The rows of a page's tables by their first cell, which is `code`."""
    rows = re.findall(r"^\| `([^`]+)` \|(.*)\|$", text_of(page), re.MULTILINE)
    return {first: [cell.strip() for cell in rest.split("|")] for first, rest in rows}


# ---- the pages


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link of a page leads to a file, and to a heading if it names one."""
    broken = []
    for link in LINK.findall(prose_of(page)):
        path, _, anchor = link.partition("#")
        if "://" in link or link.startswith("mailto:"):
            continue
        target = (page.parent / unquote(path)).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors_of(target)):
            broken.append(link)

    assert broken == []


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=name_of)
def test_each_page_can_be_reached(page: Path) -> None:
    """Each page of the documentation is in its table of contents."""
    index = DOCS / "index.md"
    linked = {(DOCS / link.partition("#")[0]).resolve() for link in LINK.findall(text_of(index))}

    assert page == index or page.resolve() in linked


@pytest.mark.parametrize("page", GUIDES, ids=name_of)
def test_blocks_are_parts_of_tested_files(page: Path) -> None:
    """Each block of Python or of a server's settings stands in a file that a test runs."""
    loose = [
        block.splitlines()[0]
        for file, language, block in BLOCK.findall(text_of(page))
        if language in {"python", "nginx"}
        and (not file or block.strip() not in text_of(ROOT / file))
    ]

    assert loose == []


def test_the_readme_has_the_whole_app() -> None:
    """The first block of Python in the README is the file `hello.py`, no more and no less."""
    blocks = BLOCK.findall(text_of(ROOT / "README.md"))
    first = next(block for _, language, block in blocks if language == "python")

    assert first == text_of(SNIPPETS / "hello.py")


def test_each_snippet_is_shown() -> None:
    """No snippet lies there that no page shows."""
    shown = {file for page in PAGES for file, _, _ in BLOCK.findall(text_of(page))}
    files = {name_of(path) for path in SNIPPETS.glob("[!.]*.*") if path.name != "ruff.toml"}

    assert files <= shown


# ---- the lists


@pytest.mark.parametrize("key", [*_READERS, *_REDIS_KEYS])
def test_each_setting_is_in_the_reference(key: str) -> None:
    """Each setting has a row in the reference, and the row has its default."""
    row = table_of(DOCS / "reference" / "configuration.md")[key]
    field = _READERS[key][0] if key in _READERS else None
    default = getattr(Config(), field) if field and key != "SSE_HANDOFF" else None

    if isinstance(default, int | float):
        assert re.search(rf"`{default:,g}`|`{default:g}`|`{default}`", row[1]), row


def test_no_other_setting_is_in_the_reference() -> None:
    """The reference has no setting that is none."""
    rows = table_of(DOCS / "reference" / "configuration.md")

    assert {key for key in rows if key.startswith("SSE_")} <= {*_READERS, *_REDIS_KEYS}


def test_each_public_name_is_in_the_reference() -> None:
    """Each name that can be imported from the package has a place in the reference."""
    text = text_of(DOCS / "reference" / "api.md") + text_of(DOCS / "reference" / "errors.md")

    assert [name for name in flask_eventstream.__all__ if f"`{name}" not in text] == []


def test_each_reason_is_in_the_reference() -> None:
    """Each reason for which a stream ends is explained, by its word."""
    words = table_of(DOCS / "reference" / "errors.md")

    assert [reason.value for reason in EndReason if reason.value not in words] == []


def test_each_room_is_in_the_architecture() -> None:
    """Each module of the package is a room in the table, and the rows are those of the layers."""
    page = text_of(DOCS / "explanation" / "architecture.md")
    rows = re.findall(r"^\| (\d+) \| (`[^|]+) \|", page, re.MULTILINE)
    shown: dict[int, set[str]] = {}
    for number, rooms in rows:
        shown.setdefault(int(number), set()).update(re.findall(r"`(\w+)/?`", rooms))
    package = Path(flask_eventstream.__file__).parent
    rooms = {path.parent.name for path in package.glob("*/__init__.py")}
    rooms |= {path.stem for path in package.glob("[!_]*.py")}
    layers = re.search(
        r"^layers = \[\n(.*?)^\]", text_of(ROOT / "pyproject.toml"), re.MULTILINE | re.DOTALL
    )
    assert layers is not None
    expected = [rooms & set(re.findall(r"\w+", line)) for line in layers[1].splitlines()]

    assert [shown[number] for number in sorted(shown)] == [row for row in expected if row]
    assert set().union(*expected) == rooms


# ---- the snippets


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The snippets at a place of the test's own, so that instance folders are its own too."""
    return Path(shutil.copytree(SNIPPETS, tmp_path / "snippets"))


def load(folder: Path, name: str) -> ModuleType:
    """Import a snippet anew."""
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", ["werkzeug", "gunicorn-sync"])
def test_the_readmes_app_runs(kind: str, serve: Serve, copied: Path) -> None:
    """What the README's app publishes reaches a reader."""
    server = serve(kind, "hello:app", cwd=copied)
    with Reader(f"{server.url}/stream") as reader:
        wait_until(lambda: reader.comments, what="the first byte")
        answer = post(f"{server.url}/hello", b"")
        event = reader.next_event()

    assert answer.text == "sent\n"
    assert (event["type"], event["data"]) == ("greeting", '{"message": "Hello!"}')


def test_the_readmes_app_is_short() -> None:
    """The README's app has at most a dozen lines of code, the rule that opens its channel too."""
    lines = text_of(SNIPPETS / "hello.py").splitlines()

    assert len([line for line in lines if line.strip()]) <= 12


def test_the_tutorials_app_runs(serve: Serve, copied: Path) -> None:
    """A vote in the tutorial's app reaches its page, and so does what a shell publishes."""
    server = serve("werkzeug", "tutorial:app", cwd=copied)
    with Reader(f"{server.url}/stream?channel=votes") as reader:
        wait_until(lambda: reader.comments, what="the first byte")
        form = b"for=tea"
        post(f"{server.url}/vote", form, {"Content-Type": "application/x-www-form-urlencoded"})
        voted = reader.next_event()
        command = [sys.executable, "-m", "flask", "--app", "tutorial", "sse", "publish", "votes"]
        subprocess.run([*command, "water", "--type", "vote"], cwd=copied, timeout=30, check=True)
        from_shell = reader.next_event()

    assert (voted["type"], voted["data"]) == ("vote", '{"for": "tea"}')
    assert (from_shell["type"], from_shell["data"]) == ("vote", "water")


def test_the_shown_test_passes(copied: Path) -> None:
    """The test that a how-to shows passes as it stands."""
    (copied / "pytest.ini").write_text("[pytest]\nfilterwarnings = error\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_votes.py"]
    done = subprocess.run(
        command, cwd=copied, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 0, done.stdout + done.stderr


def client_of(app: Flask, user: str | None) -> FlaskClient:
    """A browser in which somebody has logged in by Flask-Login."""
    client = app.test_client()
    if user is not None:
        with client.session_transaction() as session:
            session["_user_id"] = user
    return client


@pytest.mark.parametrize(
    ("user", "query", "status"),
    [
        (None, "?channel=news", 200),
        (None, "?channel=orders:1", 401),
        (None, "?channel=news&channel=orders:1", 401),
        ("ada", "?channel=orders:1&channel=news", 200),
        ("ada", "?channel=orders:1&channel=orders:3", 200),
        ("ada", "?channel=news&channel=orders:2", 403),
        ("ada", "?channel=orders:2&channel=news", 403),
        ("ada", "?channel=orders:99", 403),
        ("ada", "?channel=orders:01", 403),
        ("bob", "?channel=orders:2", 200),
        ("ada", "", 403),
        ("ada", "?channel=", 403),
        ("ada", "?channel=&channel=news", 200),
    ],
)
@pytest.mark.usefixtures("own_sse")
def test_the_rules_hold(user: str | None, query: str, status: int, copied: Path) -> None:
    """The rules of the how-to let a user read the own orders, and what is for everybody."""
    app: Flask = load(copied, "protect").app
    app.config |= {"SECRET_KEY": "test", "SSE_BROKER_URL": "memory://"}

    assert client_of(app, user).head(f"/stream{query}").status_code == status


@pytest.mark.usefixtures("own_sse")
def test_the_view_chooses(copied: Path) -> None:
    """The view of the how-to gives a user the own orders, and refuses strangers."""
    module = load(copied, "protect")
    app: Flask = module.app
    app.config |= {"SECRET_KEY": "test", "SSE_BROKER_URL": "memory://"}
    with client_of(app, "ada").get("/orders/stream?channel=orders:2") as response:
        stream = response.iter_encoded()
        next(stream)
        with app.app_context():
            for channel in ("orders:2", "news", "orders:1"):
                module.sse.publish(channel, channel=channel)
        seen = b""
        while b"data: orders:1" not in seen:
            seen += next(stream)

    assert b"data: news" in seen
    assert b"orders:2" not in seen
    assert client_of(app, None).get("/orders/stream").status_code == 401


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/user/3/stream?channel=user-3", 200),
        ("/user/4/stream?channel=user-3", 403),
        ("/user/3/stream?channel=user-3&channel=user-4", 403),
        ("/user/3/stream", 403),
    ],
)
@pytest.mark.usefixtures("own_sse")
def test_the_guard_by_address_holds(path: str, status: int, copied: Path) -> None:
    """The how-to's guard lets a user read the own channel at the own address, and nothing else."""
    app: Flask = load(copied, "protect_by_address").app
    app.config |= {"SECRET_KEY": "test", "SSE_BROKER_URL": "memory://"}
    with app.test_client() as client:
        with client.session_transaction() as session:
            session["uid"] = 3

        assert client.head(path).status_code == status


@pytest.mark.usefixtures("own_sse")
def test_the_link_of_the_page_opens_its_stream(copied: Path) -> None:
    """The how-to's page has a link to its order, and without it nobody reads."""
    app: Flask = load(copied, "link").app
    app.config |= {"SECRET_KEY": "test", "SSE_BROKER_URL": "memory://"}
    client = app.test_client()
    address = client.get("/orders/42").text.split('"')[3]

    assert client.head(address).status_code == 200
    assert client.head("/stream?channel=order-42").status_code == 403
    assert client.get("/orders/43").status_code == 403


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [("http://localhost:5173", "http://localhost:5173"), ("https://evil.example", None)],
)
@pytest.mark.usefixtures("own_sse")
def test_the_other_origins_of_the_page(origin: str, allowed: str | None, copied: Path) -> None:
    """The how-to's setting lets the page of a named origin read, and no other."""
    app: Flask = load(copied, "cross_origin").app
    app.config |= {"SSE_BROKER_URL": "memory://", "SSE_PUBLIC": True}
    answer = app.test_client().head("/stream", headers={"Origin": origin})

    assert answer.headers.get("Access-Control-Allow-Origin") == allowed


@pytest.fixture
def own_sse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a snippet an `sse` that no other test has put a rule on."""
    monkeypatch.setattr(flask_eventstream, "sse", flask_eventstream.EventStream())


@pytest.mark.usefixtures("own_sse")
def test_the_raw_recipe_becomes_a_publish(copied: Path) -> None:
    """The how-to's chat sends what is posted to the readers of its channel."""
    app: Flask = load(copied, "from_the_raw_recipe").app
    app.config["SSE_BROKER_URL"] = "memory://"
    client = app.test_client()
    with HandServer(app).request("/stream?channel=chat") as page:
        page.opened()

        assert client.post("/post", data={"user": "ada", "message": "hi"}).status_code == 204

        page.until(lambda: page.data, "the message")

    assert page.data == ["ada: hi"]


@pytest.mark.usefixtures("own_sse")
def test_the_generator_streams(copied: Path) -> None:
    """The words of the how-to's generator come one by one, and then its last event."""
    snippet = load(copied, "generator")
    app: Flask = snippet.app
    app.config["SSE_BROKER_URL"] = "memory://"
    with app.test_client() as client, client.get("/answer") as response:
        text = response.get_data(as_text=True)

    assert re.findall("^data: (.+)$", text, re.MULTILINE) == snippet.ANSWER.split()
    assert text.endswith("event: done\ndata: \n\n")


@pytest.mark.usefixtures("own_sse")
def test_a_view_lives_without_its_broker(copied: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The how-to's view stores an order and says so, also where nobody can be told of it."""
    snippet = load(copied, "without_broker")
    app: Flask = snippet.app
    app.config["SSE_BROKER_URL"] = f"redis://127.0.0.1:{free_port()}"
    with app.test_client() as client:
        answer = client.post("/orders/tea")

    assert (answer.status_code, answer.json) == (201, {"orders": 1})
    assert snippet.orders == ["tea"]
    assert "Order tea is stored, but not told" in caplog.text
    assert "the event is not published" in caplog.text


def test_the_script_publishes(serve: Serve, copied: Path) -> None:
    """The how-to's script reaches the readers of a server that knows nothing of it."""
    url = f"sqlite:///{copied}/events.db"
    app = """
import tutorial
app = tutorial.app
app.config.from_prefixed_env()
tutorial.sse.channel("tasks")(lambda: True)
"""
    (copied / "configured.py").write_text(app)
    server = serve("gunicorn-sync", "configured:app", cwd=copied, env={"FLASK_SSE_BROKER_URL": url})
    with Reader(f"{server.url}/stream?channel=tasks") as reader:
        wait_until(lambda: reader.comments, what="the first byte")
        command = [sys.executable, "from_a_script.py", url]
        printed = subprocess.run(
            command, cwd=copied, capture_output=True, text=True, timeout=30, check=True
        ).stdout
        event = reader.next_event()

    assert event["type"] == "progress"
    assert event["id"] == printed.strip()


def test_the_script_says_what_failed(copied: Path) -> None:
    """The how-to's script ends with the reason where the log can't be written."""
    command = [sys.executable, "from_a_script.py", f"sqlite:///{copied}/nowhere/events.db"]
    done = subprocess.run(
        command, cwd=copied, capture_output=True, text=True, timeout=30, check=False
    )

    assert done.returncode == 1
    assert "nobody was told: " in done.stderr


def test_the_task_publishes(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The how-to's task publishes its progress; Celery itself is played by four lines."""
    celery: Any = types.ModuleType("celery")
    celery.shared_task = lambda function: function
    monkeypatch.setitem(sys.modules, "celery", celery)
    url = f"sqlite:///{copied}/events.db"
    monkeypatch.setenv("SSE_BROKER_URL", url)
    before = Publisher(url).publish("before", channel="user-ada")
    load(copied, "from_celery").import_products("ada", ["tea", "coffee"])
    entries = asyncio.run(read_log(url, "user-ada", before))

    assert [entry.event.data for entry in entries if entry.event] == [
        '{"name": "tea", "number": 1, "of": 2}',
        '{"name": "coffee", "number": 2, "of": 2}',
    ]


class Quiet:
    """An inbox that nobody reads."""

    def deliver(self, entries: object) -> None:
        pass

    def interrupted(self, channels: object, position: str) -> None:
        pass


async def read_log(url: str, channel: str, after: str | None) -> list[Entry]:
    broker = broker_from_url(url, retention=None, timeout_s=5)
    listener = broker.listen(asyncio.get_running_loop(), Quiet())
    try:
        await listener.subscribe([channel])
        return list((await asyncio.wait_for(listener.replay([channel], after), 10)).entries)
    finally:
        listener.unsubscribe([channel])
        listener.stop()


class Collected:
    """What an iterator gives, in a thread of its own, up to the data LAST."""

    def __init__(self, items: Iterator[Any]) -> None:
        self.items: list[Any] = []
        self._thread = threading.Thread(target=self._collect, args=(items,), daemon=True)
        self._thread.start()

    def _collect(self, items: Iterator[Any]) -> None:
        for item in items:
            self.items.append(item)
            if item == LAST:
                return

    def wait_for(self, item: Any) -> None:
        wait_until(lambda: item in self.items, within_s=20, what=f"{item!r}")

    def join(self) -> list[Any]:
        self._thread.join(10)
        assert not self._thread.is_alive()
        return self.items


LAST = "that is all"


def test_the_client_with_httpx_sse_resumes(serve: Serve, copied: Path) -> None:
    """The how-to's client comes back after a cut and has every event once."""
    server = serve("gunicorn-sync", "hello:app", cwd=copied)
    publisher = Publisher(f"sqlite:///{copied}/instance/eventstream-hello.db")
    client = Collected(load(copied, "with_httpx_sse").read(f"{server.url}/stream?channel=sse"))
    wait_until(lambda: "/stream?" in server.log(), what="the client's request")
    with Reader(f"{server.url}/stream?channel=sse&lastEventId=") as later:
        wait_until(lambda: later.last_event_id, what="a later stream's position")
    for number in range(3):
        publisher.publish(number)
    client.wait_for(2)
    server.kill()
    publisher.publish('"missed"')
    serve("gunicorn-sync", "hello:app", cwd=copied, port=server.port)
    client.wait_for("missed")
    publisher.publish(f'"{LAST}"')

    assert client.join() == [0, 1, 2, "missed", LAST]


def test_the_client_with_sseclient_reads(serve: Serve, copied: Path) -> None:
    """The how-to's second client hands out each event at once."""
    server = serve("gunicorn-sync", "hello:app", cwd=copied)
    publisher = Publisher(f"sqlite:///{copied}/instance/eventstream-hello.db")
    client = Collected(load(copied, "with_sseclient").read(f"{server.url}/stream?channel=sse"))
    wait_until(lambda: "/stream?" in server.log(), what="the client's request")
    with Reader(f"{server.url}/stream?channel=sse") as later:
        wait_until(lambda: later.comments, what="a later stream")
    for data in ("a", "b", LAST):
        publisher.publish(data)
        client.wait_for(data)

    assert client.join() == ["a", "b", LAST]


def test_nginx_passes_events_on(serve: Serve, copied: Path) -> None:
    """Through nginx as the how-to configures it, head and events come at once."""
    server = serve("gunicorn-sync", "hello:app", cwd=copied)
    port = free_port()
    site = (
        text_of(copied / "nginx.conf")
        .replace(":8080", f":{port}")
        .replace(":8000", f":{server.port}")
    )
    # What a distribution's own file has around it, made small.
    main = f"""
daemon off; master_process off; pid {copied}/pid; error_log stderr;
events {{}}
http {{
    access_log off;
    client_body_temp_path {copied}/b; proxy_temp_path {copied}/p; fastcgi_temp_path {copied}/f;
    uwsgi_temp_path {copied}/u; scgi_temp_path {copied}/s;
    {site}
}}"""
    (copied / "main.conf").write_text(main)
    command = [program("nginx"), "-p", str(copied), "-c", str(copied / "main.conf")]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as nginx:
        try:
            url = f"http://127.0.0.1:{port}"
            reader = wait_until(lambda: opened(f"{url}/stream"), what="a stream through nginx")
            with reader:
                wait_until(lambda: reader.comments, what="the first byte")
                post(f"{url}/hello", b"")

                assert reader.next_event(within_s=2)["data"] == '{"message": "Hello!"}'
        finally:
            nginx.terminate()


def opened(url: str) -> Reader | None:
    try:
        return Reader(url)
    except (OSError, AssertionError):
        return None  # it does not listen yet


# ---- the Redis rules


def acl_rules(server: RedisServer) -> list[str]:
    """The rules in the reference for this server: `ACL SETUSER events on …`, over several lines."""
    blocks = BLOCK.findall(text_of(DOCS / "reference" / "redis.md"))
    shown = next(block for _, _, block in blocks if "ACL SETUSER" in block)
    rules = shown.replace("\\\n", " ").partition("ACL SETUSER events ")[2].split()
    # Valkey calls itself Redis 7.2 here. Redis 7.0 refuses a rule for what it does not have.
    if not server.info("server")["redis_version"].startswith("7.0."):
        rules += rules_besides("all but Redis 7.0")
    return rules


def rules_besides(where: str) -> list[str]:
    """What the reference says is needed besides, there."""
    row = table_row(DOCS / "reference" / "redis.md", where).replace("\\|", "|")
    return re.findall(r"\+[\w|]+", row)


@pytest.fixture
def guarded() -> Iterator[tuple[RedisServer, str]]:
    """A server, and the URL of a user who may do what the reference says and nothing else."""
    with run_redis(aof=True) as server:
        server.ask("ACL", "SETUSER", "events", *acl_rules(server))
        yield server, f"redis://events:PASSWORD@127.0.0.1:{server.port}/0"


def test_the_acl_rules_suffice(guarded: tuple[RedisServer, str]) -> None:
    """A user with the rules of the reference can publish, trim, read, find an own id and end."""
    server, url = guarded
    broker = broker_from_url(url, retention=Retention(length=8), timeout_s=5)
    publisher = Publisher(broker)
    start = publisher.publish("first", channel="a")
    publisher.publish_many(["x"] * 40, channel="a")
    publisher.publish("own", id="mine", channel="a")
    publisher.publish("after", channel="a")
    kept = asyncio.run(read_log(url, "a", start))
    after_own = asyncio.run(read_log(url, "a", "mine"))
    newest = [entry.position for entry in broker.newest("a", 1)]  # type: ignore[attr-defined]
    publisher.end("a")
    control_works(broker, url)

    assert len(newest) == 1
    assert has_ended(broker, ["a"], None)
    assert 8 <= len(kept) <= 10
    assert [entry.event.data for entry in after_own if entry.event] == ["after"]
    assert server.ask("ACL", "LOG") == []


def test_the_acl_rules_of_a_cluster_suffice() -> None:
    """The same in a cluster, here of one node, with what the reference says it needs besides."""
    unsharded = {"+publish", "+subscribe", "+unsubscribe"}
    # Its own choice, the port and ten thousand, may be no port at all.
    bus = ("--cluster-port", str(free_port()))
    with run_redis("--cluster-enabled", "yes", *bus, aof=True) as server:
        server.ask("CLUSTER", "ADDSLOTSRANGE", 0, 16_383)
        wait_until(lambda: "cluster_state:ok" in server.ask("CLUSTER", "INFO"), what="a cluster")
        plain = [rule for rule in acl_rules(server) if rule not in unsharded]
        server.ask("ACL", "SETUSER", "events", *plain, *rules_besides("a cluster"))
        url = f"redis+cluster://events:PASSWORD@127.0.0.1:{server.port}"
        start = Publisher(url).publish("first", channel="a")
        Publisher(url).publish_many(["x"] * 3, channel="a")
        control_works(broker_from_url(url, retention=None, timeout_s=5), url)

        assert len(asyncio.run(read_log(url, "a", start))) == 3
        assert server.ask("ACL", "LOG") == []


def control_works(broker: Any, url: str) -> None:
    """Control entries are written and read, records, and what processes say of channels."""
    start = broker.control("first")
    broker.control("second")
    broker.remember("name", "text", for_s=60)
    assert broker.recall("name") == "text"
    broker.share("dead", {"a": "1"}, for_s=0.001, whole=True)
    broker.share("p1", {"a": "1", "b": "2"}, for_s=60, whole=True)
    assert broker.share("p1", {"b": ""}, for_s=60)
    wait_until(lambda: broker.shares("a") == ["1"], what="the end of a lease")
    broker.unshare("p1")
    assert len(asyncio.run(read_log(url, CONTROL_CHANNEL, start))) == 1


def table_row(page: Path, first: str) -> str:
    """The row of a page's tables whose first cell is this."""
    return next(line for line in text_of(page).splitlines() if line.startswith(f"| {first} |"))


def test_the_acl_rules_keep_others_out(guarded: tuple[RedisServer, str]) -> None:
    """The user of the reference can neither read other keys nor change the server."""
    _, url = guarded
    with redis.Redis.from_url(url) as client:
        for command in (["GET", "x"], ["HGET", "other", "x"], ["FLUSHALL"], ["CONFIG", "GET", "*"]):
            with pytest.raises(redis.exceptions.NoPermissionError):
                client.execute_command(*command)


def test_each_promise_of_security_has_its_test() -> None:
    """Every test that SECURITY.md names is there."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", (ROOT / "SECURITY.md").read_text())
    missing = [
        f"{file}::{test}"
        for file, test in named
        if not (ROOT / file).is_file() or f"def {test}(" not in (ROOT / file).read_text()
    ]

    assert len(named) > 30
    assert missing == []
