"""Signed links: what they grant, to whom, for how long, and what refuses them."""

from __future__ import annotations

import logging
import re
import secrets
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Blueprint, Flask, render_template_string
from werkzeug.test import TestResponse

from flask_eventstream import BrokerUnavailable, EventStream, InvalidChannel, InvalidGrant
from flask_eventstream.access.links import Link, read_link, sign_link
from flask_eventstream.app import by_link, linking
from flask_eventstream.app.rights import Right, decide
from flask_eventstream.brokers.memory import MemoryBroker
from harness.hand_server import HandServer

KEY = "the newest key of this application"
OLD_KEY = "its key of last year"


class Clock:
    """The calendar of links, which a test sets."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(by_link, "time", clock)
    monkeypatch.setattr(linking, "time", clock)
    return clock


def an_app(name: str = "shop", **config: Any) -> tuple[Flask, EventStream]:
    app = Flask(name)
    app.config.update(
        {"SSE_BROKER_URL": "memory://", "SECRET_KEY": KEY, "SERVER_NAME": "localhost", **config}
    )
    events = EventStream()
    app.register_blueprint(events)
    events.channel("<path:any>")(lambda any: False)  # noqa: A006, ARG005  a link needs no rule
    return app, events


def url(app: Flask, events: EventStream, *channels: str, **more: Any) -> str:
    with app.test_request_context():
        return events.url(*channels, **more)


def ask(app: Flask, address: str, method: str = "HEAD", **more: Any) -> TestResponse:
    return app.test_client().open(address, method=method, buffered=False, **more)


def right(app: Flask, events: EventStream, address: str) -> Right:
    with app.test_request_context(address) as context:
        found = decide(app, context.request, events)
        assert isinstance(found, Right), found
        return found


def token_of(address: str) -> str:
    return parse_qs(urlsplit(address).query)["grant"][0]


def link_of(address: str, *keys: str, application: str = "shop") -> Link:
    link = read_link(token_of(address), keys=keys or (KEY,), application=application)
    assert link is not None
    return link


# ---- what a link grants


def test_a_link_grants_exactly_its_channels() -> None:
    """Its address opens a stream of its channels, where no rule lets anybody in."""
    app, events = an_app()
    address = url(app, events, "news", "orders:42", "news", subject=7, info={"name": "Ada"})

    assert address.startswith("/stream?grant=")
    assert ask(app, "/stream?channel=news").status_code == 403
    assert ask(app, address).status_code == 200
    granted = right(app, events, address)
    assert granted.channels == ("news", "orders:42")
    assert granted.subject == "7"
    assert granted.info == {"name": "Ada"}
    assert granted.by_link


def test_a_link_and_a_channel() -> None:
    """The query may name channels of the link, and gets all of it; another channel is refused."""
    app, events = an_app()
    address = url(app, events, "a", "b")

    assert right(app, events, f"{address}&channel=a").channels == ("a", "b")
    refused = ask(app, f"{address}&channel=a&channel=c", "GET")
    assert refused.status_code == 403
    assert refused.text == "channel 'c': the link is for others\n"
    assert refused.headers["Cache-Control"] == "no-store"


def test_guards_are_asked_of_links_too() -> None:
    """A guard refuses who has a link: it may look at an address, or count."""
    app, events = an_app()
    events.before_request(lambda: ("not now", 503))

    assert ask(app, url(app, events, "a")).status_code == 503


def test_a_view_that_chose_reads_no_link() -> None:
    """Where the view has decided, a link in the query changes nothing."""
    app, events = an_app()
    app.add_url_rule("/mine", view_func=lambda: events.stream("mine"), endpoint="mine")

    assert ask(app, f"/mine?grant={token_of(url(app, events, 'a'))}").status_code == 200
    assert ask(app, "/mine?grant=forged").status_code == 200


def test_nothing_between_page_and_stream_is_lost() -> None:
    """Whoever opens a link gets what was published since it was made; an id of its own wins."""
    app, events = an_app()
    with app.app_context():
        events.publish("old", channel="a")
        address = url(app, events, "a")
        first = events.publish("between", channel="a")
        events.publish("later", channel="a")
        state = events._state(app)
        asked = right(app, events, address)

        assert asked.position is not None
        page = state.broker.read(asked.channels, asked.position)  # type: ignore[attr-defined]
        assert [entry.event.data for entry in page.entries] == ["between", "later"]
        assert not page.gone

    assert told(app, address) == ["between", "later"]
    assert told(app, address, headers={"Last-Event-ID": first}) == ["later"]
    assert told(app, f"{address}&lastEventId={first}") == ["later"]


def test_a_link_before_the_first_event() -> None:
    """Nothing is lost either where nothing was ever published when the page was made."""
    app, events = an_app()
    address = url(app, events, "a", "b")
    with app.app_context():
        events.publish("first of all", channel="b")

    assert told(app, address) == ["first of all"]


def test_replay_asks_for_each_channel_and_never_for_the_id() -> None:
    """An id of another channel, and a link for this one: no event of the other one is given."""
    app, events = an_app()
    with app.app_context():
        before = events.publish("others", channel="secret")
        events.publish("secret", channel="secret")
        events.publish("mine", channel="a")

    assert told(app, url(app, events, "a"), headers={"Last-Event-ID": before}) == ["mine"]


def test_a_link_is_made_while_the_broker_is_away(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The page renders, and the stream begins when it is opened."""
    app, events = an_app()

    def away(*_: object) -> None:
        raise BrokerUnavailable("memory://", "it is away")

    with monkeypatch.context() as patched:
        patched.setattr(MemoryBroker, "arrive", away)
        address = url(app, events, "a")

    assert link_of(address).position is None
    assert right(app, events, address).position is None
    assert "begins when it is opened" in caplog.text
    assert token_of(address) not in caplog.text


# ---- for how long


def test_an_expired_link_stops_its_page(clock: Clock) -> None:
    """Until its time a link opens streams that end then; afterwards it is answered with 204."""
    app, events = an_app()
    address = url(app, events, "a", valid_s=60)
    clock.now += 59

    assert right(app, events, address).reader(None).expires_at == clock.now + 1
    clock.now += 1
    for method in ("GET", "HEAD"):
        answer = ask(app, address, method)
        assert answer.status_code == 204
        assert answer.headers["Cache-Control"] == "no-store"


def test_a_link_that_nobody_opened_in_time_is_void(clock: Clock) -> None:
    """It is refused, whatever its own time."""
    app, events = an_app()
    address = url(app, events, "a", open_within_s=30)
    clock.now += 30
    refused = ask(app, address, "GET")

    assert refused.status_code == 403
    assert refused.text == "the link was not opened in time\n"


def test_a_link_that_was_opened_serves_its_readers_reconnects(clock: Clock) -> None:
    """Once opened it is good for its whole time, in every process that shares the log."""
    app, events = an_app()
    address = url(app, events, "a", open_within_s=30, valid_s=3600)
    clock.now += 29
    told(app, address, wait_for=0)
    clock.now += 3000

    assert ask(app, address).status_code == 200
    clock.now += 600
    assert ask(app, address).status_code == 204


def test_a_preview_opens_no_link(clock: Clock) -> None:
    """A HEAD request, as of what looks at links in chats, is no opening."""
    app, events = an_app()
    address = url(app, events, "a", open_within_s=30)

    assert ask(app, address).status_code == 200
    clock.now += 31
    assert ask(app, address).status_code == 403


def test_a_revoked_subjects_links_are_void() -> None:
    """Links that were made before are refused, and those made afterwards are good."""
    app, events = an_app()
    old, others = url(app, events, "a", subject="ada"), url(app, events, "a", subject="bob")
    with app.app_context():
        events.revoke("ada")

    refused = ask(app, old, "GET")
    assert (refused.status_code, refused.text) == (403, "the link was revoked\n")
    assert ask(app, others).status_code == 200
    assert ask(app, url(app, events, "a", subject="ada")).status_code == 200


def test_nobody_gets_in_where_nobody_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the broker is away a link that must be looked up opens nothing, and pages come back."""
    app, events = an_app()
    address = url(app, events, "a", subject="ada")
    without = url(app, events, "a")

    def away(*_: object) -> None:
        raise BrokerUnavailable("memory://", "it is away")

    monkeypatch.setattr(MemoryBroker, "recall", away)
    answer = ask(app, address, "GET")

    assert answer.status_code == 200
    assert answer.mimetype == "text/event-stream"
    assert re.fullmatch(rb"retry: \d+\n:\n", answer.data)
    assert ask(app, without).status_code == 200


# ---- what is none


@pytest.mark.parametrize(
    "query",
    [
        "grant=",
        "grant=forged",
        "grant=" + "x" * 9000,
        "grant=%F0%9F%98%80",
        "grant=a&grant=b",
        "channel=news&grant=x",
    ],
)
def test_what_is_no_link_lets_nobody_in(query: str) -> None:
    """Anything that nobody signed is refused, also where everybody may read without a link."""
    app = Flask("open")
    app.config.update(SSE_BROKER_URL="memory://", SECRET_KEY=KEY, SSE_PUBLIC=True)
    app.register_blueprint(EventStream())

    assert ask(app, f"/stream?{query}").status_code == 403


def test_two_links_are_none() -> None:
    """A query with two links is refused, though each is good."""
    app, events = an_app()
    address = url(app, events, "a")

    assert ask(app, f"{address}&grant={token_of(address)}").status_code == 403


def test_each_changed_letter_makes_it_none() -> None:
    """No letter of a token can be changed, left out or added."""
    app, events = an_app()
    token = token_of(url(app, events, "a"))
    changed = {
        token[:i] + ("A" if token[i] != "A" else "B") + token[i + 1 :]
        for i in range(len(token) - 1)
    }
    changed |= {token[1:], token[:-1], f"{token}A", f"{token}.x"}

    assert {ask(app, f"/stream?grant={each}").status_code for each in changed} == {403}


def test_another_applications_link_is_none() -> None:
    """Neither the same key nor the same name alone is enough."""
    app, events = an_app()
    others = [an_app("office"), an_app(SECRET_KEY="another key")]

    assert [ask(app, url(*other, "a")).status_code for other in others] == [403, 403]
    assert ask(app, url(app, events, "a")).status_code == 200


def test_keys_may_be_rotated() -> None:
    """Links of an older key are good while it is a fallback; new ones have the newest."""
    before, _ = an_app(SECRET_KEY=OLD_KEY)
    old = url(before, before.extensions["flask_eventstream"].streams[0], "a")
    during, events = an_app(SECRET_KEY_FALLBACKS=[OLD_KEY, "an older one"])
    new = url(during, events, "a")
    after, _ = an_app()

    assert link_of(new, KEY).channels == ("a",)
    assert [ask(during, each).status_code for each in (old, new)] == [200, 200]
    assert [ask(after, each).status_code for each in (old, new)] == [403, 200]


def test_without_a_key_there_are_no_links() -> None:
    """Making one says what to set; a token of somebody's with an empty key opens nothing."""
    app, events = an_app(SECRET_KEY=None)
    token = sign_link(Link(("a",), 0, 1e12), keys=[""], application="shop")

    with app.app_context(), pytest.raises(RuntimeError, match="set SECRET_KEY"):
        events.url("a")
    assert ask(app, f"/stream?grant={token}").status_code == 403


@pytest.mark.parametrize(
    ("channels", "more", "error", "why"),
    [
        ([], {}, InvalidGrant, "name what the link grants"),
        (["a"], {"valid_s": 0}, InvalidGrant, "valid_s 0: must be seconds"),
        (["a"], {"valid_s": -1}, InvalidGrant, "valid_s -1"),
        (["a"], {"valid_s": float("nan")}, InvalidGrant, "valid_s nan"),
        (["a"], {"valid_s": True}, InvalidGrant, "valid_s True"),
        (["a"], {"valid_s": "60"}, InvalidGrant, "valid_s '60'"),
        (["a"], {"valid_s": 1e9}, InvalidGrant, "at most 7776000"),
        (["a"], {"open_within_s": 0}, InvalidGrant, "open_within_s 0"),
        (["a"], {"subject": ""}, InvalidGrant, "subject"),
        (["a"], {"info": {"x": "x" * 2000}}, InvalidGrant, "info"),
        ([""], {}, InvalidChannel, "is empty"),
        (["__control"], {}, InvalidChannel, "two underscores"),
        ([f"c{n}" for n in range(33)], {}, InvalidChannel, "33"),
        ([secrets.token_hex(99) for _ in range(30)], {}, InvalidGrant, "fewer channels"),
    ],
)
def test_what_makes_no_link(
    channels: list[str], more: dict[str, Any], error: type[Exception], why: str
) -> None:
    """What can't be granted is refused where the link is made, in words."""
    app, events = an_app()

    with app.app_context(), pytest.raises(error, match=re.escape(why)):
        events.url(*channels, **more)


# ---- where links are made


def test_templates_make_links() -> None:
    """`sse_url` is in each template, in macros too, and is `sse.url` of the application."""
    app, _ = an_app()
    page = (
        '{% macro source(name) %}<p data-source="{{ sse_url(name, subject=7, valid_s=5) }}">'
        "{% endmacro %}{{ source('orders:42') }}"
    )
    with app.test_request_context("/"):
        html = render_template_string(page)

    address = html.split('"')[1]
    assert link_of(address).channels == ("orders:42",)
    assert link_of(address).subject == "7"
    assert ask(app, address).status_code == 200


def test_each_application_of_a_factory_makes_its_own() -> None:
    """One object on two applications makes each one's links, at each one's address."""
    events = EventStream()
    apps = []
    for name in ("one", "two"):
        app = Flask(name)
        app.config.update(SSE_BROKER_URL="memory://", SECRET_KEY=KEY, SSE_PUBLIC=True)
        app.register_blueprint(events, url_prefix=f"/{name}/live")
        apps.append(app)
    made = []
    for app in apps:
        with app.test_request_context():
            made.append(render_template_string("{{ sse_url('a') }}"))

    assert [address.split("?")[0] for address in made] == ["/one/live", "/two/live"]
    assert ask(apps[0], made[0]).status_code == 200
    assert ask(apps[0], f"/one/live?grant={token_of(made[1])}").status_code == 403


def test_a_blueprint_in_a_blueprint() -> None:
    """A nested EventStream, and one with another name, are found where they are."""
    app = Flask("nested")
    app.config.update(SSE_BROKER_URL="memory://", SECRET_KEY=KEY, SSE_PUBLIC=True)
    events = EventStream()
    parent = Blueprint("area", __name__, url_prefix="/area")
    parent.register_blueprint(events, url_prefix="/live", name="push")
    app.register_blueprint(parent)

    address = url(app, events, "a")
    assert address.startswith("/area/live?grant=")
    assert ask(app, address).status_code == 200


def test_an_address_with_variables() -> None:
    """What the stream's address needs is given to `url`, and what `url_for` takes besides."""
    app = Flask("tenants")
    app.config.update(SSE_BROKER_URL="memory://", SECRET_KEY=KEY, SSE_PUBLIC=True)
    events = EventStream()
    app.register_blueprint(events, url_prefix="/<tenant>/stream")

    address = url(app, events, "a", tenant="acme", _external=True)
    assert address.startswith("http://localhost/acme/stream?grant=")
    assert ask(app, address).status_code == 200


# ---- never shown


def test_a_grant_is_never_logged_nor_shown(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No log line, answer, error or repr of ours has a token in it, whatever becomes of it."""
    app, events = an_app()
    caplog.set_level(logging.DEBUG)
    token = token_of(url(app, events, "a", subject="ada", open_within_s=60))
    shown = []
    with HandServer(app).request(f"/stream?grant={token}") as page:
        page.opened()
        shown.append(str(page.headers) + page.body.decode())
    with app.app_context():
        events.revoke("ada")
    for query in (
        f"grant={token}",
        f"grant={token}x",
        f"grant={token}&channel=b",
        f"grant={token}&grant={token}",
    ):
        answer = ask(app, f"/stream?{query}&channels=a", "GET")
        shown.append(f"{answer.headers} {answer.text}")
    granted = right(app, events, url(app, events, "b"))
    shown += [repr(granted), repr(granted.reader(None)), caplog.text]

    assert len(shown) == 8
    for piece in range(0, len(token) - 20, 10):  # nor a part of it
        assert not [text for text in shown if token[piece : piece + 20] in text]


def told(app: Flask, address: str, *, wait_for: int = 1, **more: Any) -> list[str]:
    """What a stream gives that was there already."""
    with HandServer(app).request(address, **more) as page:
        page.opened()
        page.until(lambda: len(page.data) >= wait_for, "the events")
        with app.app_context():
            events = app.extensions["flask_eventstream"].streams[0]
            names = right(app, events, address).channels
            events.publish("last", channel=names[0])
        page.until(lambda: "last" in page.data, "the last event")
        return [data for data in page.data if data != "last"]
