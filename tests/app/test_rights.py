"""Who gets what: guards, rules and views decide over each stream, whichever way it is opened."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
import unicodedata
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import quote

import pytest
from flask import Flask, Response, abort, request

from flask_eventstream import (
    EventStream,
    Grant,
    InvalidChannel,
    InvalidGrant,
    Message,
    ServerSentEventsBlueprint,
    sse,
)
from flask_eventstream.access.links import Link, sign_link
from flask_eventstream.access.ticket import HEADER, make_own_channel, make_ticket, sign_ticket
from flask_eventstream.app.rights import Right, decide
from harness.hand_server import HandServer

MINE = "orders:1"
OTHERS = "orders:2"


def an_app(name: str = "app_under_test", **config: Any) -> Flask:
    app = Flask(name)
    app.config.update({"SSE_BROKER_URL": "memory://", **config})
    return app


def served(**config: Any) -> tuple[Flask, EventStream]:
    events = EventStream()
    app = an_app(**config)
    app.register_blueprint(events)
    return app, events


def status(app: Flask, channels: str | tuple[str, ...], *, method: str = "HEAD") -> int:
    names = (channels,) if isinstance(channels, str) else channels
    query = "&".join(f"channel={quote(name)}" for name in names)
    return app.test_client().open(f"/stream?{query}", method=method).status_code


# ---- the table of who gets what


def no_rule(_events: EventStream) -> None:
    """Nobody decides."""


def rule_true(events: EventStream) -> None:
    """Rules let everybody read what there is of orders, and what has no name."""
    events.channel("orders:<int:number>")(lambda number: True)  # noqa: ARG005
    events.channel("sse")(lambda: True)


def rule_of_mine(events: EventStream) -> None:
    """A rule lets the first order alone be read, and no rule is for what has no name."""
    events.channel("orders:<int:number>")(lambda number: number == 1)


def rule_false(events: EventStream) -> None:
    """Rules refuse everything."""
    events.channel("<path:any>")(lambda any: False)  # noqa: A006, ARG005


def guard(events: EventStream) -> None:
    """A guard refuses, whatever a rule says."""
    rule_true(events)
    events.before_request(lambda: ("not for you", 403))


def view_chooses(events: EventStream) -> None:
    """The view has chosen the first order, and no rule would let anybody in."""
    rule_false(events)


def view_and_guard(events: EventStream) -> None:
    """The view has chosen, and a guard refuses."""
    events.before_request(lambda: ("not for you", 403))


def link(events: EventStream) -> None:
    """A link grants the first order, and no rule would let anybody in."""
    rule_false(events)


def others_link(events: EventStream) -> None:
    """The link is for the second order."""
    rule_false(events)


def expired_link(events: EventStream) -> None:
    """The link's time is over."""
    rule_false(events)


def forged_link(events: EventStream) -> None:
    """Somebody who has not the key made it, and rules would let anybody in."""
    rule_true(events)


def other_apps_link(events: EventStream) -> None:
    """Another application with the same key made it, and rules would let anybody in."""
    rule_true(events)


def rotated_link(events: EventStream) -> None:
    """It was signed before the key was changed."""
    rule_false(events)


def a_token(who: Callable[[EventStream], None], position: str) -> str:
    channel = OTHERS if who is others_link else MINE
    lasts_s = -1 if who is expired_link else 60
    now = time.time()
    signed = Link((channel,), now - 60, now + lasts_s, position=position)
    keys = {forged_link: "guess", rotated_link: "old key"}
    application = "another" if who is other_apps_link else "app_under_test"
    return sign_link(signed, keys=[keys.get(who, "key")], application=application)


#: What each way to decide answers: to one channel of mine, to one of others', to both, to none.
WHO: dict[Callable[[EventStream], None], tuple[int, int, int, int]] = {
    no_rule: (200, 200, 200, 200),
    rule_true: (200, 200, 200, 200),
    rule_of_mine: (200, 403, 403, 403),
    rule_false: (403, 403, 403, 403),
    guard: (403, 403, 403, 403),
    view_chooses: (200, 200, 200, 200),
    view_and_guard: (403, 403, 403, 403),
    link: (200, 403, 403, 200),
    others_link: (403, 200, 403, 200),
    expired_link: (204, 403, 403, 204),
    forged_link: (403, 403, 403, 403),
    other_apps_link: (403, 403, 403, 403),
    rotated_link: (200, 403, 403, 200),
}
LINKS = (link, others_link, expired_link, forged_link, other_apps_link, rotated_link)
QUERIES = {
    "mine": [MINE],
    "others": [OTHERS],
    "both": [MINE, OTHERS],
    "none": [],
}
#: What a stream that opens may give, by the query.
OPENED = {
    no_rule: [{MINE}, {OTHERS}, {MINE, OTHERS}, {"sse"}],
    rule_true: [{MINE}, {OTHERS}, {MINE, OTHERS}, {"sse"}],
    rule_of_mine: [{MINE}],
    view_chooses: [{MINE}] * 4,
    link: [{MINE}] * 4,
    others_link: [{OTHERS}] * 4,
    rotated_link: [{MINE}] * 4,
}
TABLE = [
    pytest.param(who, query, answer, id=f"{who.__name__}-{query}")
    for who, answers in WHO.items()
    for query, answer in zip(QUERIES, answers, strict=True)
]


def ask(
    who: Callable[[EventStream], None], query: str, after: str
) -> tuple[Flask, str, EventStream]:
    """An application where `who` decides, and an address of its stream."""
    app, events = served(SSE_PUBLIC=True, SECRET_KEY="key", SECRET_KEY_FALLBACKS=["old key"])
    methods = {"methods": ["GET", "POST"]}
    by_view = who in (view_chooses, view_and_guard)
    app.add_url_rule(
        "/mine", "mine", lambda: events.stream(*([MINE] if by_view else [])), **methods
    )
    who(events)
    with app.app_context():
        ids = {
            name: events.publish(f"old of {name}", channel=name) for name in (OTHERS, MINE, "sse")
        }
    named = [f"channel={quote(name)}" for name in QUERIES[query]]
    if who in LINKS:
        named.append(f"grant={a_token(who, ids['sse'])}")
    if after == "another's id":
        named.append(f"lastEventId={ids[OTHERS]}")
    return app, f"/mine?{'&'.join(named)}", events


@pytest.mark.parametrize("after", ["fresh", "another's id"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
@pytest.mark.parametrize(("who", "query", "answer"), TABLE)
def test_who_gets_what(
    who: Callable[[EventStream], None], query: str, answer: int, method: str, after: str
) -> None:
    """Each way to decide has its answer to each query, method and id, and gives only that."""
    app, address, events = ask(who, query, after)
    with HandServer(app).request(address, method=method) as page:
        headers = page.headers
        assert page.response.status == (200 if method == "OPTIONS" else answer)
        if method == "OPTIONS":
            assert {"GET", "HEAD", "OPTIONS", "POST"} == set(headers["allow"].split(", "))
        elif answer == 200:
            assert headers["content-type"].startswith("text/event-stream")
        if "no-store" not in headers.get("cache-control", ""):
            assert method == "OPTIONS"
        if method not in ("GET", "POST") or answer != 200:
            page.end()
            assert page.events == []
            return
        page.opened()
        for name in (MINE, OTHERS, "sse"):
            with app.app_context():
                events.publish(f"new of {name}", channel=name)
        allowed = OPENED[who][list(QUERIES).index(query)]
        news = {f"new of {name}" for name in allowed}
        page.until(lambda: news <= set(page.data), f"{news}")
        old = {f"old of {name}" for name in allowed}

        assert set(page.data) <= news | old
        if after == "fresh":
            assert not set(page.data) & old


# ---- what a refused reader is told


@pytest.mark.parametrize("channels", [(OTHERS,), (MINE, OTHERS), ("a", OTHERS)])
def test_the_refused_channel_is_named(
    channels: tuple[str, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """The body and the log name the channel that was refused, and nobody stores the answer."""
    app, events = served()
    events.channel("orders:<int:number>")(lambda number: number == 1)
    events.channel("a")(lambda: True)
    caplog.set_level(logging.INFO, "flask_eventstream")
    answer = app.test_client().get("/stream", query_string={"channel": list(channels)})

    assert answer.status_code == 403
    assert answer.text == "channel 'orders:2': you may not read it\n"
    assert answer.mimetype == "text/plain"
    assert answer.headers["Cache-Control"] == "no-store"
    assert caplog.messages == [
        "A stream of channel 'orders:2' was refused: rule 'orders:<int:number>' said no"
    ]


def test_a_channel_without_a_rule_is_told_as_any_other(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody learns from the body which channels have a rule; the log tells the application."""
    app, events = served()
    events.channel("news")(lambda: False)
    caplog.set_level(logging.INFO, "flask_eventstream")
    client = app.test_client()
    told = [client.get(f"/stream?channel={name}").text for name in ("news", "nws")]

    assert told == [f"channel {name!r}: you may not read it\n" for name in ("news", "nws")]
    assert caplog.messages == [
        "A stream of channel 'news' was refused: rule 'news' said no",
        "A stream of channel 'nws' was refused: no rule fits it",
    ]


def test_an_ended_channel_is_refused_too() -> None:
    """A reader who may not read a channel does not learn that it has ended."""
    app, events = served()
    events.channel("news")(lambda: False)
    with app.app_context():
        events.end("news")

    assert status(app, "news") == 403


# ---- what a rule is, and what it may do


def test_a_rule_gets_the_values_of_its_pattern() -> None:
    """A rule is called with the converted values, inside the request, also with own converters."""
    from werkzeug.routing import BaseConverter  # noqa: PLC0415

    class Upper(BaseConverter):
        regex = "[A-Z]+"

    app, events = served()
    app.url_map.converters["upper"] = Upper
    asked: list[object] = []

    @events.channel("<upper:kind>:<int:number>/<path:rest>")
    def decide_(kind: str, number: int, rest: str) -> bool:
        asked.append((kind, number, rest, request.path))
        return True

    assert status(app, "ROOM:7/a/b") == 200
    assert asked == [("ROOM", 7, "a/b", "/stream")]


def test_a_rule_may_be_async() -> None:
    """A rule that is a coroutine runs as Flask runs such views, and its answer counts."""

    class Patient(Flask):
        def async_to_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
            return lambda **values: asyncio.run(func(**values))  # flask[async] is not installed

    app, events = Patient("app_under_test"), EventStream()
    app.config["SSE_BROKER_URL"] = "memory://"
    app.register_blueprint(events)

    @events.channel("orders:<int:number>")
    async def decide_(number: int) -> bool:
        return number == 1

    assert (status(app, MINE), status(app, OTHERS)) == (200, 403)


@pytest.mark.parametrize("how", ["a status", "a response"])
def test_a_rule_may_abort(how: str) -> None:
    """What a rule aborts with is the answer, in the application's own dress."""
    app, events = served()
    app.register_error_handler(401, lambda _: ("log in first", 401))

    @events.channel("news")
    def decide_() -> bool:
        abort(401) if how == "a status" else abort(Response("pay first", 402))

    answer = app.test_client().get("/stream?channel=news")

    assert (answer.status_code, answer.text) == (
        (401, "log in first") if how == "a status" else (402, "pay first")
    )
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("answer", [None, 1, 0, "yes", [], ("news",), object()])
def test_a_rule_that_answers_something_else_lets_nobody_in(answer: object) -> None:
    """Only True, False and a Grant are decisions; the error names the rule and what it gave."""
    app, events = served(PROPAGATE_EXCEPTIONS=False)
    events.channel("news")(lambda: answer)
    what = "None: does it lack a return" if answer is None else type(answer).__name__

    assert status(app, "news") == 500
    app.config["PROPAGATE_EXCEPTIONS"] = True
    with pytest.raises(TypeError, match=f"'news', .*<lambda>, must return .* returned .*{what}"):
        status(app, "news")


def test_rules_are_asked_in_each_request() -> None:
    """A rule is asked anew by whoever opens a stream, for HEAD as for GET, and once each."""
    app, events = served()
    asked: list[str] = []
    events.channel("news")(lambda: asked.append(request.method) or True)
    for method in ("GET", "HEAD", "GET"):
        with app.test_client().open("/stream?channel=news&channel=news", method=method):
            pass

    assert asked == ["GET", "HEAD", "GET"]


def test_a_channel_too_many_is_refused_before_rules_are_asked() -> None:
    """Nobody makes the application ask more rules than one stream may have channels."""
    app, events = served(SSE_MAX_CHANNELS=2)
    events.channel("<int:number>")(lambda number: abort(500))  # noqa: ARG005

    assert status(app, ("1", "2", "3")) == 400


# ---- whose rules


def test_rules_hold_for_the_log() -> None:
    """Whichever EventStream of an application serves a channel asks the rules of all of them."""
    app = an_app()
    one, other = EventStream(name="one"), EventStream(name="other")
    app.register_blueprint(one, url_prefix="/stream")
    app.register_blueprint(other, url_prefix="/other")
    other.channel("news")(lambda: True)
    other.channel("secret")(lambda: False)
    client = app.test_client()
    seen = {
        (path, name): client.head(f"{path}?channel={name}").status_code
        for path, name in itertools.product(("/stream", "/other"), ("news", "secret", "x"))
    }

    assert seen == {
        (path, name): 200 if name == "news" else 403
        for path, name in itertools.product(("/stream", "/other"), ("news", "secret", "x"))
    }


def test_rules_of_the_ready_made_object_hold_where_it_publishes() -> None:
    """Rules on `sse` are asked in an application that was given to `EventStream(app)`."""
    app = an_app()
    EventStream(app)
    sse.channel("news")(lambda: False)

    assert status(app, "news") == 403


def test_a_rule_of_one_object_is_not_another_applications() -> None:
    """A rule on an application's own object closes nothing in another application."""
    first, events = served()
    second, _ = served()
    events.channel("news")(lambda: True)

    assert (status(first, "x"), status(second, "x")) == (403, 200)


def create(name: str, *, answer: bool | None) -> Flask:
    """An app factory; ``answer`` is what its own rule says, if it has one."""
    app = an_app(name)
    app.register_blueprint(sse)
    if answer is not None:

        @sse.channel("news")
        def decide_() -> bool:
            return answer

    return app


def test_each_application_has_the_rule_of_its_factory() -> None:
    """Of three applications of one factory each is asked its own rule; one without, the last."""
    apps = [
        create(name, answer=says)
        for name, says in zip("abcd", (True, False, True, None), strict=True)
    ]

    assert [status(app, "news") for app in apps] == [200, 403, 200, 200]
    assert [status(app, "x") for app in apps] == [403] * 4


def test_rules_of_a_factory_do_not_pile_up() -> None:
    """The rules that a factory registers for a hundred applications are one rule in each."""
    apps = [create(str(number), answer=True) for number in range(100)]

    assert all(len(list(sse._rules_in(app))) == 1 for app in apps)


def test_a_reloaded_module_has_its_rule_anew() -> None:
    """The same lines run again, as a reload runs them, replace their rule."""
    app, events = served()
    for answer in (True, False):
        events.channel("news")(lambda answer=answer: answer)

    assert status(app, "news") == 403


def test_a_pattern_has_one_rule() -> None:
    """A second rule for a pattern is refused where it is made, and names the first one."""
    _, events = served()

    @events.channel("news")
    def first() -> bool:
        return True

    with pytest.raises(InvalidChannel, match=r"'news': has a rule already, .*first: a pattern has"):
        events.channel("news")(lambda: True)


def test_two_objects_with_rules_for_one_pattern_let_nobody_in() -> None:
    """Contradicting rules of two EventStreams of one application are an error at the request."""
    app = an_app()
    one, other = EventStream(app, name="one"), EventStream(name="other")
    app.register_blueprint(other, url_prefix="/other")
    one.channel("news")(lambda: True)
    other.channel("news")(lambda: False)

    app.config["PROPAGATE_EXCEPTIONS"] = True
    with pytest.raises(InvalidChannel, match="has rules on two EventStreams: keep one"):
        status(app, "news")


def test_the_same_function_on_two_objects_is_one_rule() -> None:
    """One function that two EventStreams have for one pattern contradicts nothing."""
    app = an_app()
    one, other = EventStream(app, name="one"), EventStream(name="other")
    app.register_blueprint(other, url_prefix="/other")

    @one.channel("news")
    @other.channel("news")
    def everybody() -> bool:
        return True

    assert status(app, "news") == 200


@pytest.mark.parametrize(
    ("pattern", "why"),
    [
        ("", "is no pattern of channels"),
        (b"news", "is no pattern of channels"),
        ("__news", "begins with __"),
        ("orders:<int:number", "is no pattern of channels"),
        ("<int:a>-<int:a>", "is no pattern of channels"),
    ],
)
def test_a_pattern_that_can_not_be_one(pattern: Any, why: str) -> None:
    """A mistake in a pattern shows where it is written."""
    with pytest.raises(InvalidChannel, match=why):
        EventStream().channel(pattern)


def test_a_converter_that_nobody_knows_lets_nobody_in() -> None:
    """A converter that the application never made is an error at the request, which names it."""
    app, events = served(PROPAGATE_EXCEPTIONS=True)
    events.channel("<nomber:x>")(lambda x: True)  # noqa: ARG005

    with pytest.raises(InvalidChannel, match="nomber"):
        status(app, "1")


def test_options_of_a_rule() -> None:
    """What else holds for its channels stays with the rule; what is no option is refused."""
    _, events = served()
    events.channel("room:<name>", presence=True)(lambda name: True)  # noqa: ARG005
    (rule,) = events._rules.of({})

    assert dict(rule.options) == {"presence": True}
    with pytest.raises(TypeError, match="presence is True or False"):
        events.channel("a", presence="yes")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="presense"):
        events.channel("a", presense=True)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="is for a function, not 'f'"):
        events.channel("a")("f")  # type: ignore[type-var]


# ---- grants


def right_of(
    app: Flask, events: EventStream, address: str = "/stream?channel=a&channel=b"
) -> Right:
    with app.test_request_context(address):
        right = decide(app, request._get_current_object(), events)  # type: ignore[attr-defined]
    assert isinstance(right, Right)
    return right


def grants(a: Any, b: Any = None) -> tuple[Flask, EventStream]:
    app, events = served()
    events.channel("a")(lambda: a)
    events.channel("b")(lambda: True if b is None else b)
    return app, events


# Far behind the end of this run: it is taken when the tests are collected.
SOON = time.time() + 86_400


@pytest.mark.parametrize(
    ("a", "b", "right"),
    [
        (True, True, Right(("a", "b"))),
        (Grant("ada"), True, Right(("a", "b"), subject="ada")),
        (True, Grant(7), Right(("a", "b"), subject="7")),  # type: ignore[arg-type]
        (Grant("ada"), Grant("ada"), Right(("a", "b"), subject="ada")),
        (Grant(until=SOON), Grant(until=SOON - 1), Right(("a", "b"), until=SOON - 1)),
        (Grant(until=SOON), True, Right(("a", "b"), until=SOON)),
        (Grant(history=False), Grant(), Right(("a", "b"), history=False)),
        (Grant("x", {"name": "X"}), True, Right(("a", "b"), subject="x", info={"name": "X"})),
    ],
)
def test_grants_of_one_stream(a: Any, b: Any, right: Right) -> None:
    """A stream of several channels has one reader, the earliest end, and no more than all have."""
    assert right_of(*grants(a, b)) == right


def test_two_readers_of_one_stream() -> None:
    """Rules that take a reader for two different ones are an error, and nobody gets in."""
    app, _ = grants(Grant("ada"), Grant("bob"))
    app.config["PROPAGATE_EXCEPTIONS"] = True

    with pytest.raises(
        InvalidGrant, match=r"a stream has one reader, .* 'ada' of 'a', 'bob' of 'b'"
    ):
        status(app, ("a", "b"))


def test_a_grant_that_has_ended_is_none() -> None:
    """A right until yesterday is a refusal."""
    app, _ = grants(Grant(until=datetime.now(timezone.utc) - timedelta(days=1)))  # type: ignore[arg-type]

    assert (status(app, "a"), status(app, "b")) == (403, 200)


def test_a_grant_goes_with_the_stream() -> None:
    """Who reads, and until when, is part of what the hub is asked for."""
    app, events = grants(Grant("ada", until=SOON))
    with app.test_request_context("/stream?channel=a"):
        opening = events.stream().opening  # type: ignore[attr-defined]

    assert opening.request.reader.subject == "ada"
    assert opening.request.reader.expires_at == SOON


@pytest.mark.parametrize("by", ["header", "query"])
@pytest.mark.parametrize("after", ["an id", "a made-up id"])
def test_no_history_whatever_id_is_shown(by: str, after: str) -> None:
    """With `history=False` a reader gets what comes from now on, and no reset for its id."""
    app, events = grants(Grant(history=False))
    with app.app_context():
        first = events.publish("first", channel="a")
        events.publish("old", channel="a")
        shown = first if after == "an id" else "0badcafe-7"
        query, headers = "", {}
        if by == "query":
            query = f"&lastEventId={shown}"
        else:
            headers = {"Last-Event-ID": shown}
        with HandServer(app).request(f"/stream?channel=a{query}", headers=headers) as page:
            page.opened()
            events.publish("new", channel="a")
            page.until(lambda: page.events, "an event")

            assert [event["data"] for event in page.events] == ["new"]


# ---- the view chooses


def test_a_view_chooses_whatever_the_query_says() -> None:
    """Channels that the view chose are the stream's, and the query adds and takes nothing."""
    app, events = served()
    events.channel("<path:any>")(lambda any: False)  # noqa: A006, ARG005
    app.add_url_rule("/mine", "mine", lambda: events.stream("b", "a", "b", 7))
    with app.test_request_context("/mine?channel=other&channel=a"):
        opening = events.stream("b", "a", "b", 7).opening  # type: ignore[attr-defined]

    assert opening.request.channels == ("7", "a", "b")


@pytest.mark.parametrize("name", ["a\0", "__keyevent@0__:set", "", None, "x" * 201])
def test_a_view_chooses_what_is_no_channel(name: Any) -> None:
    """A name that can't be a channel's is a bad request also where the view made it."""
    app, events = served()
    app.add_url_rule("/mine", "mine", lambda: events.stream("a", name))

    assert app.test_client().get("/mine").status_code == 400


def test_a_view_that_chooses_none_leaves_it_to_the_rules() -> None:
    """`sse.stream()` reads the query, and asks the rules, also in a view of one's own."""
    app, events = served()
    events.channel("a")(lambda: True)
    app.add_url_rule("/mine", "mine", lambda: events.stream(*[]))
    client = app.test_client()

    assert client.head("/mine?channel=a").status_code == 200
    assert client.head("/mine").status_code == 403


def test_where_a_stream_begins() -> None:
    """`start` is for a reader who shows no id; who comes back goes on from its own."""
    app, events = served()
    with app.app_context():
        ids = [events.publish(text, channel="a") for text in ("1", "2", "3")]
    app.add_url_rule("/mine", "mine", lambda: events.stream("a", start=request.args["start"]))

    def seen(start: str, query: str = "", **headers: str) -> list[str]:
        address = f"/mine?start={start}{query}"
        with HandServer(app).request(address, headers=headers) as page:
            page.opened()
            with app.app_context():
                events.publish("new", channel="a")
            page.until(lambda: "new" in page.data, "the new event")
            return [data for data in page.data if data != "new"]

    assert seen(ids[0])[:2] == ["2", "3"]
    assert seen("now") == []
    assert seen(ids[0], **{"Last-Event-ID": ids[1]})[:1] == ["3"]
    assert seen("now", f"&lastEventId={ids[1]}")[:1] == ["3"]


@pytest.mark.parametrize(
    ("start", "error", "why"),
    [
        (7, TypeError, "start is an id as text, 'now' or None, and not int 7"),
        (True, TypeError, "not bool True"),
        ("", ValueError, "start is empty"),
    ],
)
def test_a_start_that_is_none(start: Any, error: type[Exception], why: str) -> None:
    """What can be no start of a stream is refused in words."""
    app, events = served()
    with app.test_request_context("/stream"), pytest.raises(error, match=why):
        events.stream("a", start=start)


# ---- names


NAMES = [
    "News",
    "NEWS",
    "news ",
    " news",
    "news\u00a0",
    "news\u200b",
    "news/",
    "/news",
    "n%65ws",
    "news%20",
    "news+",
    "news?",
    "news#",
    "news;",
    "\uff4eews",
    unicodedata.normalize("NFD", "é") + "news",
]
NO_NAMES = ["news\0", "\0news", "news\n", "news\r", "news\t", "news\x7f", "__news"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_nearly_another_is_another(name: str) -> None:
    """To a rule, a query and a publish two names that differ in anything are two channels."""
    app, events = served()
    events.channel("news")(lambda: True)

    assert status(app, name) == 403

    other, more = served(SSE_PUBLIC=True)
    with HandServer(other).request(f"/stream?channel={quote(name, safe='')}") as page:
        page.opened()
        with other.app_context():
            more.publish("not for it", channel="news")
            more.publish("for it", channel=name)
        page.got("for it")

    # The rule for such a name is for it alone.
    third, events = served()
    events.channel(name.replace("<", ""))(lambda: True)

    assert (status(third, name), status(third, "news")) == (200, 403)


@pytest.mark.parametrize("name", NO_NAMES)
def test_a_name_that_is_none_is_refused_everywhere(name: str) -> None:
    """What can't be a channel is refused by query, publish, view and rule alike."""
    app, events = served()
    events.channel("news")(lambda: True)
    app.add_url_rule("/mine", "mine", lambda: events.stream(name))

    assert status(app, name) == 400
    assert app.test_client().head("/mine").status_code == 400
    with app.app_context(), pytest.raises(InvalidChannel):
        events.publish("x", channel=name)
    with pytest.raises(InvalidChannel):
        events.channel(name)


# ---- others that serve streams


class Discreet(ServerSentEventsBlueprint):
    """Tells its readers what it likes."""

    def messages(self, channel: Any = "sse") -> Iterator[Message]:
        """One, of its channel."""
        yield Message(f"all that may be seen of {channel}")


def test_overridden_messages_have_rules() -> None:
    """Rules are asked before overridden `messages` are, and a view may choose for them."""
    own = Discreet("own", __name__, url_prefix="/stream")
    own.add_url_rule("", endpoint="stream", view_func=own.stream)
    own.add_url_rule("/mine", endpoint="mine", view_func=lambda: own.stream("b"))
    app = an_app()
    app.register_blueprint(own)
    own.channel("a")(lambda: Grant("ada", until=SOON))

    assert (status(app, "a"), status(app, "b"), status(app, ("a", "b"))) == (200, 403, 403)
    with HandServer(app).request("/stream?channel=a") as page:
        page.got("all that may be seen of a")
    with HandServer(app).request("/stream/mine?channel=a") as page:
        page.got("all that may be seen of b")
    with app.test_request_context("/stream?channel=a"):
        reader = own.stream().opening.request.reader  # type: ignore[attr-defined]

    assert (reader.subject, reader.expires_at) == ("ada", SOON)


def test_the_doctor_reads_its_own_channel() -> None:
    """Whoever has a ticket reads the doctor's own channel, of which no rule knows, and no other."""
    app, events = served(SECRET_KEY="the app's own")
    events.channel("news")(lambda: False)
    own = make_own_channel()
    ticket = sign_ticket(make_ticket(time.time()), "the app's own")
    client = app.test_client()

    def answer(*channels: str, ticket: str = ticket) -> int:
        query = {"channel": list(channels)}
        return client.head("/stream", query_string=query, headers={HEADER: ticket}).status_code

    assert answer(own) == 200
    assert answer(own, ticket="") == 403
    assert answer(own, ticket=sign_ticket(make_ticket(time.time()), "another's")) == 403
    assert answer("news") == answer(own, "news") == answer("x") == answer() == 403


# ---- what is said


@pytest.mark.parametrize("how", ["a rule", "SSE_PUBLIC"])
def test_who_decided_is_not_warned(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """A rule, or the word that everybody may read, silences the warning of open streams."""
    app, events = served(SSE_PUBLIC=how == "SSE_PUBLIC")
    if how == "a rule":
        events.channel("a")(lambda: True)
    status(app, "a")

    assert caplog.messages == []


def test_a_view_that_chose_leaves_the_stream_open(caplog: pytest.LogCaptureFixture) -> None:
    """Where only views choose, the log says that the stream's own address is open to everybody."""
    app, events = served()
    app.add_url_rule("/mine", "mine", lambda: events.stream("a"))
    for _ in range(2):
        app.test_client().head("/mine")

    assert [text.partition(":")[0] for text in caplog.messages] == [
        "EventStream 'sse' has no rule and no guard"
    ]


def test_a_rule_answers_for_an_unguarded_stream(caplog: pytest.LogCaptureFixture) -> None:
    """Rules hold for all EventStreams of an application, so one without a guard is no gap."""
    app, events = served()
    other = EventStream(name="other")
    app.register_blueprint(other, url_prefix="/other")
    other.before_request(lambda: ("no", 403))
    events.channel("a")(lambda: True)
    status(app, "a")

    assert caplog.messages == []
