"""Who may read what, on real servers: a refusal is an ordinary answer, and costs no stream."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness.servers import KINDS
from harness.streams import Reader, get
from harness.waiting import wait_until
from harness.wire import Wire, request_line
from live.site import Site

Launch = Callable[..., Site]

ADA = {"Cookie": "user=ada"}

#: As they stand in an address, and none is `user:ada` of the rule, or any other that may be read.
NEARLY = [
    "user:Ada",
    "User:ada",
    "user:ada%20",
    "user:ada+",
    "user%3A%61da%00",
    "user:ada%0A",
    "user:%2561da",
    "user:ada%C2%A0",
    "user:%EF%BD%81da",
    "user:ada/",
    "/user:ada",
    "user:ada&channel=user:bob",
    "private",
]


@pytest.mark.parametrize("kind", KINDS)
def test_who_may_read_gets_events_and_nobody_else(kind: str, launch: Launch) -> None:
    """A reader gets what its rules or its view allow; whoever is refused learns which channel."""
    site = launch(kind, app="deciding:app")
    with (
        site.read("news", "user:ada", headers=ADA) as by_rule,
        Reader(f"{site.url}/mine?channel=user:bob", headers=ADA) as by_view,
    ):
        for reader in (by_rule, by_view):
            wait_until(lambda reader=reader: reader.comments, what="an open stream")
        refused = [get(f"{site.url}/stream?channel={name}", headers=ADA) for name in NEARLY]
        stranger = get(site.stream_url("user:ada"))
        site.wait_streams(2)
        for channel in ("user:bob", "private", "user:ada", "news"):
            site.publish_through_worker(channel, channel)

        assert [by_rule.next_event()["data"] for _ in range(2)] == ["user:ada", "news"]
        assert [by_view.next_event()["data"] for _ in range(2)] == ["private", "user:ada"]

    assert {reply.status for reply in refused} == {400, 403}
    assert all("no-store" in reply.headers["cache-control"] for reply in refused)
    assert refused[-1].text == "channel 'private': you may not read it\n"
    assert refused[-2].text == "channel 'user:bob': you may not read it\n"
    assert stranger.status == 401
    site.assert_no_trouble()


def test_an_id_of_a_channel_that_is_not_allowed_gives_nothing_of_it(launch: Launch) -> None:
    """Whoever shows the id of another's event gets what is allowed, and no more."""
    site = launch("gunicorn-sync", app="deciding:app")
    first = site.publisher.publish("secret 1", channel="user:bob")
    site.publisher.publish("secret 2", channel="user:bob")
    site.publisher.publish("old news", channel="news")
    with site.read("news", headers={"Last-Event-ID": first}) as reader:
        assert reader.next_event()["data"] == "old news"
        assert b"secret" not in reader.raw

    assert get(site.stream_url("user:bob"), headers={"Last-Event-ID": first}).status == 401


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "POST"])
def test_other_methods_open_no_stream(method: str, launch: Launch) -> None:
    """HEAD is refused as GET is, OPTIONS says the methods, and POST is not the stream's."""
    site = launch("gunicorn-sync", app="deciding:app")
    url = site.stream_url("private")
    with Wire(url) as wire:
        wire.send(request_line(url, method), "Host: localhost", "Connection: close", "")
        head, _, body = wire.read_to_end().partition(b"\r\n\r\n")

    assert int(head.split()[1]) == {"HEAD": 403, "OPTIONS": 200, "POST": 405}[method]
    assert (b"you may not" in body) is False
    assert site.stats()["streams"] == 0
