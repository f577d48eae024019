"""`flask_eventstream.doctor.findings`: what follows from what was seen. No network."""

from __future__ import annotations

import dataclasses
import re
import shlex
from typing import Any

import pytest

from flask_eventstream.doctor.facts import AppFacts, StreamFacts
from flask_eventstream.doctor.findings import examine_app, examine_stream
from flask_eventstream.doctor.remedies import FINDINGS, Level
from flask_eventstream.doctor.report import Remark, render

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
    asked="https://shop.example/stream",
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
    cache_control="no-store, no-transform",
    answered_s=0.01,
    told=TOLD,
    opened=True,
    probed=True,
    probe_s=0.02,
    beat=True,
    silent_s=15.0,
)
LATE: dict[str, Any] = {"probe_s": None, "beat": False, "silent_s": 5.0}


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
        ({"garbled": True, "encoding": "br"}, ["garbled"]),
        ({"failure": ("broken", "no status line")}, ["broken"]),
        ({"broken": "illegal chunk header", "ended": "broken", **LATE}, ["broken"]),
        ({"only_retry": True, "opened": False, "ended": "finished", **LATE}, ["resting"]),
        ({"cache_control": "no-store"}, ["cache-control"]),
        ({"cache_control": "NO-STORE,no-transform, private"}, []),
        ({"cache_control": ""}, ["cache-control"]),
        ({"proxy": "nginx/1.22.1"}, ["restart"]),
        ({"told": {**TOLD, "heartbeat_s": 61.0}, "beat": False}, ["slow-heartbeat"]),
        ({"told": {**TOLD, "heartbeat_s": 61.0}, "beat": False, "ended": "cut"}, ["cut-idle"]),
        ({"opened": False, **LATE}, ["withheld"]),
        ({"opened": False, "flooded": True, "flushed": True, **LATE}, ["buffered"]),
        ({"flooded": True, "flushed": True, **LATE}, ["buffered"]),
        ({"encoding": "gzip"}, []),
        ({"encoding": "gzip", "plain_s": 0.1, **LATE}, ["gzip"]),
        ({"encoding": "gzip", "plain_s": 0.1, "flushed": True, **LATE}, ["gzip"]),
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
    ("facts", "found"),
    [
        ({"told": {"several": False}, "pids": {1}}, "memory"),
        ({"told": {"several": True}, "pids": {1}}, "memory-several"),
        ({"told": {"several": False}, "pids": {1, 2}}, "memory-several"),
        ({"told": {}}, "memory"),
        ({"told": {}, "epochs": {"a"}}, "memory"),
        ({"told": {}, "epochs": {"a", "b"}}, "memory-several"),
    ],
)
def test_memory_in_several_processes(facts: dict[str, Any], found: str) -> None:
    """`memory://` is a problem where the server says so, or where two processes answered."""
    app = dataclasses.replace(APP, broker="memory://")
    remarks = stream_with(app, probed=False, probe_s=None, **facts)

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
        ({"sent_away": "a2wsgi never …: give it …EventStreamASGI(app) instead"}, "asgi = EventSt"),
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


@pytest.mark.parametrize(
    ("held", "mend"),
    [
        ("run EventStreamASGI(app), or fewer streams than --blocking-threads", "asgi = EventSt"),
        ("uWSGI runs a loop of its own: --threads is what is known to work", "--threads 4"),
        ("Werkzeug forks a process for each request: leave `processes` at 1", "threaded=True"),
        ("x shows none: run it with gunicorn, or fewer streams than it has threads", "gunicorn --"),
    ],
)
def test_why_it_is_held_has_its_remedy(held: str, mend: str) -> None:
    """A stream that holds a thread gets the lines for that server, and not for another."""
    (finding,) = [each for each in stream_with(told={**TOLD, "held": held}) if each.mend]

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
        ({"redis": {"maxmemory_policy": "volatile-ttl", "maxmemory": "9"}}, ["redis-evicts"]),
    ],
)
def test_the_app_alone(facts: dict[str, Any], found: list[str]) -> None:
    """What can be seen of the app without its address leads to these findings."""
    assert found_in(app_with(**facts)) == found


# ---- what a server says, in what is shown


@pytest.mark.parametrize(
    ("location", "follow"),
    [
        ("/login?next=%2Fstream", "'https://shop.example/login?next=%2Fstream'"),
        ("//other.example/s", "https://other.example/s"),
        ("https://x.example/$(reboot);`ls`", "'https://x.example/$(reboot);`ls`'"),
        ("https://x.example/'\nrm -rf ~", "'https://x.example/'\"'\"'rm -rf ~'"),
        ("javascript:alert(1)", None),
        ("http://[", None),
        ("", None),
    ],
)
def test_where_it_leads_can_be_copied(location: str, follow: str | None) -> None:
    """Where a redirect leads is a whole address, and one word of a command, or no command."""
    (finding,) = stream_with(status=302, location=location)[1:]
    lines = finding.mend.splitlines()

    assert lines[:-1] == ([] if follow is None else [f"flask sse doctor {follow}"])
    assert lines[-1].startswith('flask sse doctor --header "Cookie: session=…" https://shop.ex')


NAMED = {"channel": "a b", "is_own_channel": False}


@pytest.mark.parametrize(
    ("facts", "options"),
    [
        ({}, [{"--header"}, {"--channel"}, {"--header", "--channel"}]),
        ({"has_headers": True}, [{"--header", "--channel"}]),
        (NAMED, [{"--header", "--channel"}]),
        ({"has_headers": True, **NAMED}, [{"--header", "--channel"}]),
    ],
)
def test_who_is_refused_has_each_way(facts: dict[str, Any], options: list[set[str]]) -> None:
    """A refusal names what was not tried yet, alone and together, and keeps what was given."""
    (finding,) = stream_with(status=403, **facts)[1:]
    lines = [shlex.split(line, comments=True) for line in finding.mend.splitlines()]

    assert [{word for word in line if word.startswith("--")} for line in lines] == options
    assert all(line[-1] == "https://shop.example/stream" for line in lines)
    if "has_headers" not in facts and facts:
        assert "a b" in lines[0]


def test_a_proxy_gets_its_own_lines() -> None:
    """For nginx there is what to say while the app is away; for others a socket that stays."""
    (nginx,) = [each for each in stream_with(proxy="nginx/1.22.1") if each.mend]
    (other,) = [each for each in stream_with(proxy="1.1 Caddy") if each.mend]

    assert "error_page 502 503 504 = @back;" in nginx.mend
    assert "ListenStream=" in other.mend


LIE = "x\n\n  ok      all is well\n\nProblems: 0. Advice: 0.\x1b[2J"
SAID = ("server", "broker", "held", "sent_away")


@pytest.mark.parametrize(
    "facts",
    [
        {"status": 302, "location": LIE},
        {"content_type": LIE},
        {"content_type": f"text/event-stream; {LIE}", "encoding": LIE, "garbled": True},
        {"broken": LIE},
        {"failure": ("broken", LIE)},
        {"proxy": LIE, "cache_control": LIE},
        *({"told": {**TOLD, name: LIE}} for name in SAID),
        {"told": {**TOLD, "sent_away": LIE, "held": LIE, "threads": 1}},
    ],
)
def test_a_server_can_not_speak_for_the_doctor(facts: dict[str, Any]) -> None:
    """Whatever a server says, it adds no line to the report and steers no terminal."""
    text = "\n".join(render(remark) for remark in stream_with(**facts))
    lines = text.splitlines()

    assert "\x1b" not in text
    assert "  ok      all is well" not in lines
    assert not any(line.startswith("Problems") for line in lines)
    assert "all is well" in text
