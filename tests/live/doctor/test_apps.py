"""What servers and apps can do to a stream, and what the doctor says of it."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.streams import Reader
from harness.waiting import wait_until
from live.doctor.conftest import PATIENCE_S, Shop

KEY = "no secret"
ADA = {"Cookie": "user=ada"}

OpenShop = Callable[..., Shop]


@pytest.fixture(scope="module")
def holding(open_shop: OpenShop) -> Shop:
    """Four threads that streams hold, in one process."""
    return open_shop("gunicorn-gthread", "--threads", "4", SSE_HANDOFF="off")


@pytest.fixture(scope="module")
def guarded(open_shop: OpenShop) -> Shop:
    """A shop whose stream wants a cookie."""
    return open_shop("gunicorn-sync", RULE="401")


def opened(url: str) -> Reader:
    reader = Reader(url)
    wait_until(lambda: reader.comments, what="the first byte")
    return reader


def held(url: str) -> Reader:
    """A stream that holds a thread: a visitor before it gives its own back at a heartbeat."""

    def try_to() -> Reader | None:
        reader = Reader(url)
        # One that is sent away has a first comment, too, and ends behind it.
        wait_until(lambda: reader.comments > 1 or reader.ended, what="a heartbeat, or the end")
        if not reader.ended:
            return reader
        reader.close()
        return None

    reader = wait_until(try_to, within_s=20, what="a thread that is free")
    assert reader is not None
    return reader


# ---- how streams are held


def test_threads_that_are_held_are_found(holding: Shop) -> None:
    """Streams that hold threads are found, with the reason, the bound and the setting."""
    found = holding.visit()

    assert found.only.headline.startswith("Each stream holds a thread of gunicorn/")
    assert found.only.why == "SSE_HANDOFF is off. Of 4 in each process, streams get 2."
    assert found.only.mend == 'SSE_HANDOFF = "auto"'


def test_threads_that_are_used_up_are_found(holding: Shop) -> None:
    """A stream that is sent away because others hold the threads says why."""
    with held(holding.url), held(holding.url):
        found = holding.visit()

    assert found.only.headline == "The stream was sent away at once"
    assert "All threads that can be spared hold a stream: SSE_HANDOFF is off." in found.only.why
    assert found.only.mend == 'SSE_HANDOFF = "auto"'


def test_a_server_without_a_free_thread_is_found(open_shop: OpenShop) -> None:
    """A sync worker whose only thread is held answers nothing, and the likely cause is named."""
    shop = open_shop("gunicorn-sync", SSE_HANDOFF="off", SSE_HEARTBEAT_S=15)
    with opened(shop.url):
        found = shop.visit(answer_s=2)

    assert found.only.headline == "The server took the connection and does not answer"
    assert "threads of the server are used up" in found.only.why


def test_too_many_streams_are_found(open_shop: OpenShop) -> None:
    """A process that holds as many streams as it may is found by the stream's immediate end."""
    shop = open_shop("gunicorn-sync", SSE_MAX_STREAMS=1)
    with opened(shop.url):
        found = shop.visit()

    assert found.only.headline == "The stream was sent away at once"
    assert "SSE_MAX_STREAMS" in found.only.mend


def test_an_asgi_server_is_fine(open_shop: OpenShop) -> None:
    """Under uvicorn nothing is wrong, and no thread is held."""
    found = open_shop("uvicorn").visit()

    assert found.problems == []
    assert "streams hold no thread of the server" in found.fine


def test_a_bridge_that_is_not_ours_is_found(open_shop: OpenShop) -> None:
    """Behind uvicorn's own bridge to WSGI streams are sent away, and the wrapper is named."""
    found = open_shop("uvicorn", "--interface", "wsgi", app="shop:app").visit()

    assert found.only.headline == "The stream was sent away at once"
    assert "asgi = EventStreamASGI(app)" in found.only.mend


def test_a_server_without_uvloop_is_found(open_shop: OpenShop, tmp_path: Path) -> None:
    """A server whose Python has no uvloop is found, though the command's own has it."""
    (tmp_path / "uvloop.py").write_text("raise ImportError('not for this Python')\n")
    shop = open_shop("gunicorn-sync", env={"PYTHONPATH": str(tmp_path)})
    found = shop.visit()

    assert found.only.headline == "uvloop is not installed"
    assert found.only.mend == "pip install uvloop"


# ---- the broker


@pytest.mark.parametrize(
    ("workers", "headline"),
    [
        ("2", "memory:// does not reach the other processes of this server"),
        ("1", "memory:// can't be judged from here"),
    ],
)
def test_memory_is_found(workers: str, headline: str, open_shop: OpenShop) -> None:
    """`memory://` in several processes is a problem; in one it can't be judged, which is said."""
    shop = open_shop(
        *("gunicorn-sync", "--workers", workers), SSE_BROKER_URL="memory://", SECRET_KEY=KEY
    )
    found = shop.visit(key=KEY)

    assert headline in (found.problems if workers == "2" else found.advice)
    assert len(found.problems) == (workers == "2")
    assert "the stream opens at once" in found.fine


@pytest.mark.parametrize("workers", ["2", "1"])
def test_memory_is_found_without_a_key(workers: str, open_shop: OpenShop) -> None:
    """Without a key in common two processes are told from one by where their logs stand."""
    shop = open_shop("gunicorn-sync", "--workers", workers, SSE_BROKER_URL="memory://")
    headline = "memory:// does not reach the other processes of this server"

    def is_found() -> bool:
        return headline in shop.visit().problems

    # The kernel chooses which worker answers, and may choose the same eight times.
    if workers == "2":
        wait_until(is_found, within_s=40, what="both workers to answer")
    else:
        assert not is_found()


def test_another_broker_is_found(open_shop: OpenShop, tmp_path: Path) -> None:
    """A server that uses another file than the command is found, and both are said."""
    shop = open_shop("gunicorn-sync", SECRET_KEY=KEY)
    ours = f"sqlite:///{tmp_path}/ours.db"
    found = shop.visit(key=KEY, broker_url=ours, patience_s=PATIENCE_S)

    assert found.only.headline == "The server uses another broker than this command"
    assert shop.broker_url in found.only.why
    assert ours in found.only.why


def test_a_probe_that_gets_lost_is_found(guarded: Shop, tmp_path: Path) -> None:
    """Without a key in common it is not known why nothing arrives, but what is likely."""
    ours = f"sqlite:///{tmp_path}/ours.db"
    found = guarded.visit(broker_url=ours, headers=ADA, patience_s=PATIENCE_S, answer_s=3)

    assert found.only.headline == "The probe did not arrive"
    assert ours in found.only.why


# ---- compression in the app


def test_middleware_that_compresses_is_found(open_shop: OpenShop) -> None:
    """Middleware that waits for enough to compress is told from a proxy that buffers."""
    shop = open_shop(
        *("gunicorn-gthread", "--threads", "250"), GZIP=1, SSE_HANDOFF="off", SSE_HEARTBEAT_S=1
    )
    found = shop.visit(patience_s=PATIENCE_S)

    assert found.only.headline == "Compression keeps events back"
    assert "gzip off;" in found.only.mend
    assert 'environ.pop("HTTP_ACCEPT_ENCODING", None)' in found.only.mend


# ---- rules


def test_a_refusal_is_found(guarded: Shop) -> None:
    """A rule that refuses gets the options for a user's cookie and for a channel."""
    found = guarded.visit()

    assert found.only.headline == "A rule of the app refuses the stream"
    assert f'flask sse doctor --header "Cookie: session=…" {guarded.url}' in found.only.mend


def test_rules_of_channels_let_the_doctor_in(open_shop: OpenShop) -> None:
    """A doctor with a ticket needs no rule for its own channel, and another channel's holds."""
    shop = open_shop("gunicorn-sync", RULE="channels")

    assert shop.visit().problems == []
    assert shop.visit(channel="news").only.headline == "A rule of the app refuses the stream"


@pytest.mark.parametrize(
    ("rule", "enough"),
    [("401", {"--header"}), ("channel", {"--channel"}), ("both", {"--header", "--channel"})],
)
def test_one_of_the_ways_in_works(rule: str, enough: set[str], open_shop: OpenShop) -> None:
    """Whatever the rule wants, a cookie, a channel or both, one of the lines leads in."""
    shop = open_shop("gunicorn-sync", RULE=rule)
    lines = [shlex.split(line, comments=True) for line in shop.visit().only.mend.splitlines()]
    (way,) = [line for line in lines if {word for word in line if word[:2] == "--"} == enough]
    found = shop.visit(
        way[-1],
        headers=ADA if "--header" in way else {},
        channel="news" if "--channel" in way else None,
    )

    assert found.problems == []


def test_a_header_is_sent(guarded: Shop) -> None:
    """With the cookie of a user the rule lets the doctor in."""
    found = guarded.visit(headers=ADA)

    assert found.problems == []


def test_a_login_page_is_found(open_shop: OpenShop) -> None:
    """A redirect to a login page is not followed, but shown."""
    found = open_shop("gunicorn-sync", RULE="login").visit()

    assert found.only.headline == "The address leads elsewhere"
    assert "/login" in found.only.why


def test_an_ended_channel_is_found(holding: Shop) -> None:
    """A channel that the app has ended is found, and stays ended."""
    holding.publisher.end("auction")
    holding.visit(channel="auction")
    found = holding.visit(channel="auction")

    assert found.only.headline == "The channel is ended"
    assert found.only.mend.startswith("flask sse publish auction hello")


def test_a_channel_of_the_apps_own_will_do(holding: Shop) -> None:
    """A probe on a channel of the app's own is of a type that its pages do not listen for."""
    with held(f"{holding.url}?channel=news") as page:
        found = holding.visit(channel="news")
        event = page.next_event()

    assert [line for line in found.fine if line.startswith("a probe arrived")]
    assert event["type"] == "sse-doctor"
