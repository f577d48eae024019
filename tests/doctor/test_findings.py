"""`flask_eventstream.doctor.findings`: what follows from what was seen. No network."""

from __future__ import annotations

import dataclasses
import inspect
import re
import string
from pathlib import Path
from typing import Any

import pytest

import flask_eventstream
from flask_eventstream.doctor.findings import (
    AppFacts,
    Remark,
    StreamFacts,
    examine_app,
    examine_stream,
    render,
)
from flask_eventstream.doctor.remedies import FINDINGS, FINE, HELD, Level

APP = AppFacts(
    broker="sqlite:////srv/events.db",
    app="shop:app",
    path="/stream",
    heartbeat_s=15.0,
    lifetime_s=3600.0,
    max_event_bytes=4 << 20,
    takes_events=True,
)
TOLD = {"pid": 1, "server": "gunicorn/27", "several": True, "broker": APP.broker, "uvloop": True}
WELL = StreamFacts(
    url="https://shop.example/stream?channel=sse-doctor-1",
    host="shop.example",
    port=443,
    should_be="https://shop.example/stream",
    channel="sse-doctor-1",
    waited_s=5.0,
    is_tls=True,
    offers_http2=True,
    answers=True,
    status=200,
    content_type="text/event-stream; charset=utf-8",
    answered_s=0.01,
    told=TOLD,
    opened=True,
    probed=True,
    probe_s=0.02,
    beat=True,
    silent_s=15.0,
)
LATE: dict[str, Any] = {"probe_s": None, "beat": False, "silent_s": 5.0}
PACKAGE = Path(flask_eventstream.__file__).parent


def app_with(**facts: Any) -> list[Remark]:
    return list(examine_app(dataclasses.replace(APP, **facts)))


def stream_with(app: AppFacts = APP, **facts: Any) -> list[Remark]:
    return list(examine_stream(app, dataclasses.replace(WELL, **facts)))


def key_of(remark: Remark) -> str:
    """The key of the finding whose headline this is."""
    for key, finding in FINDINGS.items():
        pattern = re.sub(r"\\\{\w+\\\}", ".+", re.escape(finding.headline))
        if re.fullmatch(pattern, remark.headline) and remark.level is finding.level:
            return key
    raise AssertionError(remark)


def found_in(remarks: list[Remark]) -> list[str]:
    return [key_of(remark) for remark in remarks if remark.mend]


# ---- the stream


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    """A stream as it should be has no finding, and each thing that was checked is a line."""
    remarks = stream_with()

    assert found_in(remarks) == []
    assert [remark.headline for remark in remarks] == [
        "the server uses the same broker",
        "the address answers: 200 text/event-stream; charset=utf-8 after 0.01 s",
        "the stream opens at once",
        "a probe arrived 0.02 s after it was published",
        "a heartbeat came after 15.0 s of silence",
        "streams hold no thread of gunicorn/27",
        "browsers get HTTP/2 here, and with it any number of streams",
    ]


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({"failure": ("no-host", "unknown")}, ["no-host"]),
        ({"failure": ("refused", "refused")}, ["refused"]),
        ({"failure": ("tls", "self-signed")}, ["tls"]),
        ({"failure": ("unreachable", "no route")}, ["unreachable"]),
        ({"answers": False}, ["no-answer"]),
        ({"status": None}, ["withheld"]),
        ({"status": None, "flooded": True, "flushed": True}, ["buffered"]),
        ({"status": 204}, ["ended"]),
        ({"status": 302, "location": "/login"}, ["redirect"]),
        ({"status": 400}, ["failed"]),
        ({"status": 401}, ["forbidden"]),
        ({"status": 403}, ["forbidden"]),
        ({"status": 404}, ["not-found"]),
        ({"status": 500}, ["failed"]),
        ({"status": 502}, ["no-upstream"]),
        ({"content_type": "text/html"}, ["not-a-stream"]),
        ({"content_type": ""}, ["not-a-stream"]),
        ({"garbled": True}, ["garbled"]),
        ({"opened": False, **LATE}, ["withheld"]),
        ({"opened": False, "flooded": True, "flushed": True, **LATE}, ["buffered"]),
        ({"flooded": True, "flushed": True, **LATE}, ["buffered"]),
        ({"is_compressed": True}, []),
        ({"is_compressed": True, "plain_s": 0.1, **LATE}, ["gzip"]),
        ({"is_compressed": True, "plain_s": 0.1, "flushed": True, **LATE}, ["gzip"]),
        ({"opened": False, "ended": "cut", **LATE}, ["cut"]),
        ({"ended": "cut", **LATE}, ["cut"]),
        ({"ended": "closed", **LATE}, ["cut"]),
        ({"ended": "finished", **LATE, "silent_s": 0.01}, ["sent-away"]),
        ({"ended": "closed", **LATE, "silent_s": 0.01}, ["sent-away"]),
        ({"ended": "cut", "beat": False, "silent_s": 5.0}, ["cut-idle"]),
        ({"ended": "closed", "beat": False, "silent_s": 5.0}, ["cut-idle"]),
        ({"ended": "closed", "beat": False, "silent_s": 0.0, "stayed_s": 2900.0}, []),
        ({"ended": "cut", "beat": False, "silent_s": 9.0, "stayed_s": 2900.0}, ["cut-idle"]),
        ({"beat": False, "silent_s": 20.0}, ["no-heartbeat"]),
        (LATE, ["lost-probe", "no-heartbeat"]),
        ({"probe_s": None}, ["lost-probe"]),
        ({"told": {**TOLD, "broker": "redis://else"}, "probe_s": None}, ["other-broker"]),
        ({"trouble": ("it is full", "make room"), "probe_s": None}, ["broker-away"]),
        ({"told": {**TOLD, "uvloop": False}}, ["no-uvloop"]),
        ({"told": {**TOLD, "held": "SSE_HANDOFF is off", "threads": 4}}, ["held"]),
        ({"told": {**TOLD, "held": "SSE_HANDOFF is off", "threads": 1000}}, ["held-many"]),
        ({"told": {**TOLD, "held": "it ends TLS itself"}}, ["held"]),
        ({"told": {**TOLD, "sent_away": "no descriptor is left"}, **LATE}, ["sent-away"]),
        ({"told": {}}, []),
        ({"offers_http2": False}, ["six-tls"]),
        ({"offers_http2": False, "is_tls": False}, ["six"]),
    ],
)
def test_each_sight_has_its_finding(facts: dict[str, Any], found: list[str]) -> None:
    """What was seen leads to this finding and to no other."""
    assert found_in(stream_with(**facts)) == found


@pytest.mark.parametrize(
    ("told", "pids", "found"),
    [
        ({"several": False}, {1}, "memory"),
        ({"several": True}, {1}, "memory-several"),
        ({"several": False}, {1, 2}, "memory-several"),
        ({}, set(), "memory"),
    ],
)
def test_memory_in_several_processes(told: dict[str, Any], pids: set[int], found: str) -> None:
    """`memory://` is a problem where the server says so, or where two processes answered."""
    app = dataclasses.replace(APP, broker="memory://")
    remarks = stream_with(app, told=told, pids=frozenset(pids), probed=False, probe_s=None)

    assert found_in(remarks) == [found]


def test_the_servers_heartbeat_counts() -> None:
    """Both numbers of an idle cut-off are said, and the server's own setting is what counts."""
    told = {**TOLD, "heartbeat_s": 30.0}
    (finding,) = [each for each in stream_with(told=told, ended="cut", beat=False, silent_s=9.0)
                  if each.level is Level.PROBLEM]  # fmt: skip

    assert "cut after 9.0 s of silence" in finding.why
    assert "every 30 s" in finding.why
    assert finding.mend.splitlines() == [
        "SSE_HEARTBEAT_S = 3",
        "proxy_read_timeout 60s;    # or, in nginx: in the location of /stream",
    ]


@pytest.mark.parametrize(
    ("told", "mend"),
    [
        ({"sent_away": "uWSGI lets no thread run: start it with --enable-threads"}, "--threads 4"),
        ({"sent_away": "no descriptor is left: raise ulimit -n"}, "ulimit -n 65536"),
        ({"sent_away": "all are taken", "held": "it ends TLS itself"}, "listen 443 ssl http2;"),
        ({"sent_away": "all are taken", "held": "x does not show its sockets"}, "gunicorn --work"),
    ],
)
def test_why_it_was_sent_away_has_its_remedy(told: dict[str, Any], mend: str) -> None:
    """A stream that was sent away gets the lines that help against that reason."""
    remarks = stream_with(told={**TOLD, **told}, **LATE)
    (finding,) = [remark for remark in remarks if remark.mend]

    assert key_of(finding) == "sent-away"
    assert mend in finding.mend


def test_a_short_life_is_no_cut() -> None:
    """A stream that holds the only thread ends after its own short life, and that is said."""
    told = {**TOLD, "held": "SSE_HANDOFF is off", "threads": 1, "lifetime_s": 20.0}
    remarks = stream_with(told=told, ended="closed", beat=False, stayed_s=17.0, silent_s=0.0)

    assert found_in(remarks) == ["held"]


# ---- the app


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({}, []),
        ({"lacks_uvloop": True}, ["no-uvloop"]),
        ({"trouble": ("it is full", "make room"), "takes_events": False}, ["broker-away"]),
        ({"redis": {}}, []),
        ({"redis": {"connected_clients": "79", "maxclients": "100"}}, []),
        ({"redis": {"connected_clients": "80", "maxclients": "100"}}, ["redis-clients"]),
        ({"redis": {"maxmemory_policy": "allkeys-lru", "maxmemory": "0"}}, []),
        ({"redis": {"maxmemory_policy": "noeviction", "maxmemory": "9"}}, []),
        ({"redis": {"maxmemory_policy": "volatile-ttl", "maxmemory": "9"}}, ["redis-evicts"]),
    ],
)
def test_the_app_alone(facts: dict[str, Any], found: list[str]) -> None:
    """What can be seen of the app without its address leads to these findings."""
    assert found_in(app_with(**facts)) == found


@pytest.mark.parametrize(
    ("limits", "found"),
    [
        ("normal 0 0 0 pubsub 33554432 8388608 60", []),
        ("pubsub 0 0 0 normal 0 0 0", []),
        ("pubsub 8388608 4194304 60", []),
        ("pubsub 8388607 4194304 60", ["redis-buffer"]),
        ("pubsub 8388608 4194303 60", ["redis-buffer"]),
        ("normal 0 0 0", []),
    ],
)
def test_the_buffer_of_redis(limits: str, found: list[str]) -> None:
    """A limit is too small where one event as large as may be would exceed it."""
    assert found_in(app_with(redis={"client-output-buffer-limit": limits})) == found


# ---- words


def test_a_finding_as_it_is_shown() -> None:
    """A finding is a headline, why it matters, and lines to copy; what is fine is one line."""
    assert render(Remark(None, "uvloop is there")) == "  ok      uvloop is there"
    assert render(Remark(Level.UNKNOWN, "how: it won't say")) == "  unknown how: it won't say"
    assert render(Remark(Level.PROBLEM, "Broken", "Because.", "mend it\nso")) == (
        "  problem Broken\n          Because.\n\n              mend it\n              so\n"
    )
    assert render(Remark(Level.ADVICE, "Better", "So.", "x")).startswith("  advice  Better\n")


@pytest.mark.parametrize("location", ["/a\x1b[2J", "/a\r\nb"])
def test_a_server_can_not_steer_the_terminal(location: str) -> None:
    """What a server says is shown without its control characters."""
    text = "\n".join(render(remark) for remark in stream_with(status=302, location=location))

    assert "\x1b" not in text
    assert "\r" not in text


def test_each_finding_is_complete() -> None:
    """Each finding has a headline without an end, a reason with one, and lines that mend it."""
    for key, finding in FINDINGS.items():
        assert not finding.headline.endswith("."), key
        assert finding.why.endswith((".", "{room}")), key
        assert finding.mend.strip(), key


def test_each_text_is_used() -> None:
    """No finding and no line lies there that nothing leads to."""
    source = "".join(
        (PACKAGE / name).read_text(encoding="utf-8")
        for name in ("doctor/findings.py", "doctor/probe.py")
    )

    assert [key for key in (*FINDINGS, *FINE) if f'"{key}"' not in source] == []


def test_the_reasons_for_holding_exist() -> None:
    """Each reason that has a remedy of its own is one that the code gives."""
    source = "".join(
        path.read_text(encoding="utf-8")
        for path in sorted((PACKAGE / "servers" / "wsgi").glob("*.py"))
    )

    assert [sign for sign, _ in HELD if sign not in source] == []
    assert HELD[-1][0] == ""
    for _, mend in HELD:
        names = {name for _, name, _, _ in string.Formatter().parse(mend) if name}
        assert names <= {"app"}


def test_the_page_has_each_finding() -> None:
    """The how-to explains each finding by its headline."""
    page = PACKAGE.parents[1] / "docs" / "how-to" / "find-what-is-wrong.md"
    text = page.read_text(encoding="utf-8")
    shown = {
        key: inspect.cleandoc(re.sub(r"\{\w+\}", "…", finding.headline))
        for key, finding in FINDINGS.items()
    }

    assert [key for key, headline in shown.items() if headline not in text] == []
