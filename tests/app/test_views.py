"""`GET /stream`: from a request to a response."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, abort
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_eventstream import BrokerUnavailable, EventStream, Grant
from harness.hand_server import HandServer, Page

PREAMBLE = b"retry: 3000\n:\n"
BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux x86_64)"}


@pytest.fixture
def events() -> EventStream:
    """An extension of the test's own."""
    return EventStream()


@pytest.fixture
def app(events: EventStream) -> Flask:
    """An application with a log in memory, its stream at /stream."""
    app = Flask("app_under_test")
    app.config.update(SSE_BROKER_URL="memory://", SSE_PUBLIC=True)
    app.register_blueprint(events)
    return app


@pytest.fixture
def server(app: Flask) -> HandServer:
    """A server that shows its sockets."""
    return HandServer(app)


# ---- channels


@pytest.mark.parametrize(
    ("query", "channels"),
    [
        ("", ["sse"]),
        ("?channel=", ["sse"]),
        ("?channel=&channel=", ["sse"]),
        ("?channel=a", ["a"]),
        ("?channel=a&channel=b", ["a", "b"]),
        ("?channel=b&channel=a&channel=b&channel=", ["a", "b"]),
        ("?channel=a,b", ["a,b"]),
        ("?channel=*", ["*"]),
        ("?channel=Zo%C3%AB", ["Zoë"]),
        ("?channel=" + "x" * 200, ["x" * 200]),
    ],
)
def test_the_query_names_the_channels(
    server: HandServer, events: EventStream, query: str, channels: list[str]
) -> None:
    """Each `channel` of the query is read, literally and once; none, or an empty one, is `sse`."""
    with server.request(f"/stream{query}") as page:
        page.opened()
        for channel in ("sse", "a", "b", "other", *channels):
            events.publish(channel, channel=channel)
        events.publish("the end", channel=channels[0])
        page.until(lambda: page.data and page.data[-1] == "the end", "all events")

        assert set(page.data) == {*channels, "the end"}


@pytest.mark.parametrize(
    ("query", "why"),
    [
        ("channel=a%0Ab", "channel 'a\\nb': has a control character: use printable text\n"),
        ("channel=%00", "channel '\\x00': has a control character: use printable text\n"),
        ("channel=a&channel=" + "x" * 201, "is longer than 200 bytes: shorten it\n"),
    ],
)
def test_a_channel_that_can_not_be_one_is_a_bad_request(app: Flask, query: str, why: str) -> None:
    """A bad channel name gives 400, and a line of plain text that says why."""
    response = app.test_client().get(f"/stream?{query}")

    assert response.status_code == 400
    assert response.mimetype == "text/plain"
    assert response.text.endswith(why)


@pytest.mark.parametrize(
    ("query", "headers", "named"),
    [
        ("", {}, None),
        ("?client=", {}, None),
        ("?client=page-1", {}, "page-1"),
        ("?client=Zo%C3%AB", {"X-SSE-Client": "other"}, "Zoë"),
        ("", {"X-SSE-Client": "page-1"}, "page-1"),
        ("?client=" + "x" * 200, {}, "x" * 200),
    ],
)
def test_a_page_may_have_a_name(
    app: Flask, events: EventStream, query: str, headers: dict[str, str], named: str | None
) -> None:
    """The query, else the header, says what the page calls itself."""
    with app.test_request_context(f"/stream{query}", headers=headers):
        response: Any = events.stream()

    assert response.opening.request.reader.client_id == named


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a%0Ab", "can't be printed"),
        ("a%00", "can't be printed"),
        ("%20a", "white space"),
        ("x" * 201, "longer than 200 bytes"),
        ("%C3%AB" * 101, "longer than 200 bytes"),
    ],
)
def test_a_name_that_can_not_be_one_is_a_bad_request(app: Flask, name: str, why: str) -> None:
    """Names that no event could leave out are refused in words."""
    response = app.test_client().get(f"/stream?client={name}")

    assert response.status_code == 400
    assert response.text.startswith("client '")
    assert why in response.text


def test_the_page_of_a_request(app: Flask, events: EventStream) -> None:
    """`client_id` is what the page says in a header; its own query may have a `client`, too."""
    asked = [
        ({}, None),
        ({"X-SSE-Client": "page-1"}, "page-1"),
        ({"X-SSE-Client": "x" * 201}, None),
        ({"X-SSE-Client": ""}, None),
    ]
    for headers, named in asked:
        with app.test_request_context("/say?client=customer", headers=headers):
            assert events.client_id() == named


def test_too_many_channels_are_a_bad_request(app: Flask) -> None:
    """More channels than configured give 400, which names the key; as many are fine."""
    app.config["SSE_MAX_CHANNELS"] = 2
    client = app.test_client()

    assert client.head("/stream?channel=a&channel=b").status_code == 200
    assert client.head("/stream?channel=a&channel=b&channel=a").status_code == 200

    response = client.get("/stream?channel=a&channel=b&channel=c")

    assert response.status_code == 400
    assert response.text == "3 channels: more than 2 in one stream: see SSE_MAX_CHANNELS\n"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("channels", "channel"),
        ("channel[]", "channel"),
        ("Channel", None),
        ("lastEventID", "lastEventId"),
        ("last_event_id", "lastEventId"),
        ("Last-Event-ID", "lastEventId"),
        ("amp;lastEventId", "lastEventId"),
        ("amp;channel", "channel"),
        ("mine", None),
    ],
)
def test_a_name_that_is_nearly_right_is_said_once(
    app: Flask, caplog: pytest.LogCaptureFixture, name: str, meant: str | None
) -> None:
    """A misspelt name in the query is named in the log, once, with the right form."""
    for spelling in (name, name, name.upper() if meant else name):
        query = {spelling: "secret", "channel": "a", "lastEventId": ""}
        assert app.test_client().head("/stream", query_string=query).status_code == 200

    assert caplog.messages == [
        f"A stream was asked for with {name.lower()}= (in some capitals) in its query, which is"
        f" not read: write {each}="
        for each in [meant]
        if each
    ]


@pytest.mark.parametrize(
    ("query", "status"), [("", 200), ("?channel=%00", 400), ("?channel=ended", 204)]
)
def test_no_answer_is_kept_by_a_cache(
    app: Flask, events: EventStream, query: str, status: int
) -> None:
    """Every answer of the view says that nobody may store it or guess another type."""
    events.end("ended")
    answer = app.test_client().head(f"/stream{query}")

    assert answer.status_code == status
    assert "no-store" in answer.headers["Cache-Control"].split(", ")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/stream", "/mine"])
@pytest.mark.parametrize("how", ["answer", "abort"])
def test_no_refusal_is_kept_by_a_cache(
    app: Flask, events: EventStream, path: str, how: str
) -> None:
    """What a guard answers may not be stored either, unless it says something itself."""
    app.add_url_rule("/mine", "mine", events.stream)
    events.before_request(lambda: ("none", 404) if how == "answer" else abort(404))
    answer = app.test_client().get(path)

    assert answer.status_code == 404
    if (path, how) != ("/mine", "abort"):  # which is the application's own error page
        assert answer.headers["Cache-Control"] == "no-store"


def test_other_pages_of_the_blueprint_keep_their_headers(app: Flask) -> None:
    """Pages that an application adds to the blueprint are its own affair."""
    events = EventStream(name="other")
    events.add_url_rule("/page", "page", lambda: "a page")
    app.register_blueprint(events, url_prefix="/other")

    assert "Cache-Control" not in app.test_client().get("/other/page").headers


def test_proxies_may_not_transform_a_stream(app: Flask) -> None:
    """A stream says `no-transform`: what compresses it keeps events back."""
    answer = app.test_client().head("/stream")

    assert answer.headers["Cache-Control"] == "no-store, no-transform"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_only_reading_methods_are_allowed(app: Flask, method: str) -> None:
    """Methods that don't read are refused."""
    assert app.test_client().open("/stream", method=method).status_code == 405


def test_the_path_is_exact(app: Flask) -> None:
    """The stream is at its prefix, without a slash at the end."""
    assert app.test_client().head("/stream/").status_code == 404


# ---- where the reader was


def test_the_header_says_where_the_reader_was(server: HandServer, events: EventStream) -> None:
    """A reader with a Last-Event-ID gets what came after it."""
    first = events.publish("first")
    events.publish("second")
    with server.request(headers={"Last-Event-ID": first}) as page:
        page.got("second")


def test_the_query_says_it_too(server: HandServer, events: EventStream) -> None:
    """A reader that can't set headers says it with `lastEventId`."""
    first = events.publish("first")
    events.publish("second")
    with server.request(f"/stream?lastEventId={first}") as page:
        page.got("second")


def test_the_header_wins(server: HandServer, events: EventStream) -> None:
    """Where both are given, a reconnecting browser's header is newer than the page's query."""
    first = events.publish("first")
    second = events.publish("second")
    events.publish("third")
    with server.request(f"/stream?lastEventId={first}", headers={"Last-Event-ID": second}) as page:
        page.got("third")


def test_an_empty_header_counts_for_nothing(server: HandServer, events: EventStream) -> None:
    """An empty Last-Event-ID leaves the word to the query."""
    first = events.publish("first")
    events.publish("second")
    with server.request(f"/stream?lastEventId={first}", headers={"Last-Event-ID": ""}) as page:
        page.got("second")


def test_an_own_id_may_be_any_text(server: HandServer, events: EventStream) -> None:
    """A reader resumes from an application's own id, whose UTF-8 comes as a header's Latin-1."""
    events.publish("first", id="Zoë, ☃")
    events.publish("second")
    header = "Zoë, ☃".encode().decode("latin-1")
    with server.request(headers={"Last-Event-ID": header}) as page:
        page.got("second")


@pytest.mark.parametrize(
    "header", ["nobody's", "\xff\xfe", "x" * 2000, "aaaaaaaa-99999999999999999999"]
)
def test_an_unknown_id_is_a_reset(server: HandServer, events: EventStream, header: str) -> None:
    """A Last-Event-ID that nobody gave out gives `stream-reset`, then what is there."""
    events.publish("old")
    with server.request(headers={"Last-Event-ID": header}) as page:
        page.until(lambda: page.events, "the reset")
        events.publish("new")
        page.got("old", "new")

        assert [event["type"] for event in page.events] == ["stream-reset", "message", "message"]


@pytest.mark.parametrize(
    ("query", "headers", "what"),
    [
        ("", {"Last-Event-ID": "x" * 2049}, "Last-Event-ID has 2049 bytes, more than 2048"),
        ("?x=" + "x" * 36_863, {}, "the query has 36865 bytes, more than 36864"),
    ],
)
def test_what_no_request_needs_is_a_bad_request(
    app: Flask, query: str, headers: dict[str, str], what: str
) -> None:
    """A query or a Last-Event-ID longer than any that is ours gives 400, before it is read."""
    answer = app.test_client().get(f"/stream{query}", headers=headers)

    assert answer.status_code == 400
    assert answer.text == f"{what}: no event stream needs that\n"
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_longest_request_that_can_be_meant(app: Flask) -> None:
    """32 channels of 200 bytes, percent-encoded, and an id with a place in each are read."""
    names = "&".join(f"channel={'%F0%9F%8E%88' * 49}{number:02}" for number in range(32))
    place = "m.00000000" + "_aaaaaaaa-1000000000000000000" * 32
    answer = app.test_client().head(f"/stream?{names}", headers={"Last-Event-ID": place})

    assert answer.status_code == 200


# ---- addresses and subjects


def test_streams_of_one_subject(app: Flask, events: EventStream, server: HandServer) -> None:
    """A subject that a rule names has so many streams as it may; another one is served."""
    app.config["SSE_MAX_STREAMS_PER_SUBJECT"] = 2

    @events.channel("of-<name>")
    def somebody(name: str) -> Grant:
        return Grant(subject=name)

    with ExitStack() as stack:

        def ask(name: str) -> Page:
            return stack.enter_context(server.request(f"/stream?channel=of-{name}"))

        pages = [ask("ann").opened(), ask("ann").opened()]
        beyond = ask("ann")
        beyond.end()
        pages.append(ask("bob").opened())
        for name in ("ann", "bob"):
            events.publish("hello", channel=f"of-{name}")
        for page in pages:
            page.got("hello")

        assert beyond.response.status == 200
        assert beyond.parser.retry is not None
        assert events.stats().refused == {"subject": 1}


@pytest.mark.parametrize(
    ("environ", "headers", "fixed", "said"),
    [
        ({"REMOTE_ADDR": "192.0.2.1"}, {}, False, ""),
        ({"REMOTE_ADDR": "127.0.0.1"}, {"X-Forwarded-For": "192.0.2.1"}, False, "a proxy's"),
        ({"REMOTE_ADDR": "127.0.0.1"}, {"X-Forwarded-For": "192.0.2.1"}, True, ""),
        ({"REMOTE_ADDR": ""}, {}, False, "bounds nothing"),
    ],
)
def test_whose_streams_are_counted(
    app: Flask,
    environ: dict[str, str],
    headers: dict[str, str],
    fixed: bool,  # noqa: FBT001
    said: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where SSE_MAX_STREAMS_PER_ADDRESS counts a proxy, or nobody, the log says so once."""
    app.config["SSE_MAX_STREAMS_PER_ADDRESS"] = 10
    if fixed:
        app.wsgi_app = ProxyFix(app.wsgi_app)  # type: ignore[method-assign]
    for _ in range(2):
        app.test_client().head("/stream", environ_overrides=environ, headers=headers)

    assert [said in message for message in caplog.messages] == [True] * bool(said)


@pytest.mark.parametrize(
    ("path", "headers", "told"),
    [
        ("/stream", BROWSER, True),
        ("/stream?lastEventId=", {}, True),
        ("/stream", {"User-Agent": "python-requests/2.32"}, False),
        ("/stream", {}, False),
    ],
)
def test_who_is_told_its_position_at_once(
    server: HandServer, path: str, headers: dict[str, str], *, told: bool
) -> None:
    """Browsers, and who asks for it, get an id before the first event; other programs don't."""
    with server.request(path, headers=headers) as page:
        page.opened()
        page.until(lambda: page.body.endswith(b"\n"), "the whole preamble")

        assert (page.body != PREAMBLE) is told
        assert bool(page.parser.last_event_id) is told
        assert page.events == []


@pytest.mark.parametrize(
    ("padding", "size_bytes"),
    [
        ("true", 2048),
        ("1000", 1000),
        ("99999", 8192),
        ("2", 2),
        ("0", 0),
        ("", 0),
        ("-5", 0),
        ("1e3", 0),
        ("100000", 0),
        ("٣", 0),
        ("false", 0),
    ],
)
def test_padding_for_old_browsers(server: HandServer, padding: str, size_bytes: int) -> None:
    """`padding` gives a comment of so many bytes before the stream, 8 KiB at the most."""
    with server.request(f"/stream?padding={padding}") as page:
        page.until(lambda: page.body.endswith(PREAMBLE), "the preamble")

        assert len(page.body) == len(PREAMBLE) + size_bytes
        assert size_bytes == 0 or page.body.startswith(b":")


# ---- ended channels


def test_a_reader_who_has_seen_the_end_is_told_to_stop(
    server: HandServer, app: Flask, events: EventStream
) -> None:
    """After the end of its channel a reader gets 204, which an EventSource takes for good."""
    with server.request() as page:
        page.opened()
        events.publish("last")
        events.end("sse")
        page.end()
        seen = page.events[-1]

    assert seen["type"] == "stream-end"
    assert seen["data"] == '{"channels": ["sse"]}'

    response = app.test_client().get("/stream", headers={"Last-Event-ID": seen["id"]})

    assert response.status_code == 204
    assert response.data == b""


def test_who_missed_the_end_gets_the_rest_first(server: HandServer, events: EventStream) -> None:
    """A reader that was away at the end gets what it missed, the end, and only then 204."""
    first = events.publish("first")
    events.publish("last")
    events.end("sse")
    with server.request(headers={"Last-Event-ID": first}) as page:
        page.end()

        assert [event["data"] for event in page.events] == ["last", '{"channels": ["sse"]}']


def test_an_event_after_the_end_opens_the_channel(
    server: HandServer, app: Flask, events: EventStream
) -> None:
    """A channel that was ended and has a new event is open again, for readers of before too."""
    events.end("sse")

    assert app.test_client().get("/stream").status_code == 204

    events.publish("again")
    with server.request() as page:
        page.opened()
        events.publish("more")
        page.got("more")


def test_one_open_channel_is_enough(server: HandServer, events: EventStream) -> None:
    """A reader of an ended and an open channel gets a stream."""
    events.end("a")
    with server.request("/stream?channel=a&channel=b") as page:
        page.opened()
        events.publish("x", channel="b")
        page.got("x")


def test_an_absent_log_is_no_reason_to_refuse(
    app: Flask, events: EventStream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nobody can tell whether a channel is ended, the stream is opened."""
    broker = events._state(app).broker

    def away(*_: object) -> bool:
        raise BrokerUnavailable("memory", "away")

    monkeypatch.setattr(broker, "arrive", away)

    assert app.test_client().head("/stream").status_code == 200


# ---- the response


def test_the_applications_response_class_is_used(app: Flask, server: HandServer) -> None:
    """A response class of the application's own sets its headers on streams too."""

    class Answer(Response):
        def __init__(self, *args: Any, **more: Any) -> None:
            super().__init__(*args, **more)
            self.headers["X-Answer"] = "own"

    app.response_class = Answer
    with server.request() as page:
        assert page.headers["x-answer"] == "own"
        assert page.headers["content-type"].startswith("text/event-stream")


def test_a_response_class_is_made_once(app: Flask, events: EventStream) -> None:
    """Two streams of an application have responses of one class, so that none is left over."""
    with app.test_request_context("/stream"):
        first, second = events.stream(), events.stream()

    assert type(first) is type(second)
    assert isinstance(first, app.response_class)


def test_streams_of_one_class_do_not_mix(app: Flask, events: EventStream) -> None:
    """Each response has its own request's channels."""
    with app.test_request_context("/stream?channel=a"):
        first: Any = events.stream()
    with app.test_request_context("/stream?channel=b"):
        second: Any = events.stream()

    assert (first.opening.request.channels, second.opening.request.channels) == (("a",), ("b",))


def test_memory_among_several_processes_is_warned_of_once(
    app: Flask, caplog: pytest.LogCaptureFixture
) -> None:
    """A log in memory under a server of several processes is warned of, once."""
    client = app.test_client()
    for _ in range(2):
        client.head("/stream", environ_overrides={"wsgi.multiprocess": True})

    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith("SSE_BROKER_URL is memory://")


@pytest.mark.parametrize("kind", ["one process", "a file"])
def test_nothing_else_is_warned_of(
    app: Flask, tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """Memory in one process, and a file among several, are as they should be."""
    if kind == "a file":
        app.config["SSE_BROKER_URL"] = f"sqlite:///{tmp_path}/events.db"
    app.test_client().head("/stream", environ_overrides={"wsgi.multiprocess": kind == "a file"})

    assert caplog.messages == []
