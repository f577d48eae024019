"""Many streams on one worker that is free all the while, and events that reach them whole."""

from __future__ import annotations

import time

from harness.streams import Crowd
from live.site import Site

STREAMS = 300


def ping_times_s(site: Site, count: int) -> list[float]:
    times = []
    for _ in range(count):
        began = time.perf_counter()
        site.ping()
        times.append(time.perf_counter() - began)
    return times


def test_a_worker_with_300_streams_answers(site: Site, channel: str) -> None:
    """A worker that holds 300 streams answers each ordinary request in well under a second."""
    with Crowd(site.stream_url(channel), STREAMS) as crowd:
        crowd.wait_opened(STREAMS, within_s=20)

        assert max(ping_times_s(site, 20)) < 0.5
        assert crowd.ended == 0


def test_a_worker_answers_while_streams_open(site: Site, channel: str) -> None:
    """Ordinary requests are answered while 300 streams are being opened."""
    with Crowd(site.stream_url(channel), STREAMS) as crowd:
        slowest_s = max(ping_times_s(site, 10))
        crowd.wait_opened(STREAMS, within_s=20)

    assert slowest_s < 1


def test_one_event_reaches_each_of_300_once(site: Site, channel: str) -> None:
    """An event that a view publishes reaches each of 300 streams once."""
    with Crowd(site.stream_url(channel), STREAMS) as crowd:
        crowd.wait_opened(STREAMS, within_s=20)
        site.publish_through_worker("hello", channel)
        # A second copy of the first event would come before this one.
        site.publish_through_worker("end", channel)
        crowd.wait_events(2, within_s=10)

        assert {tuple(crowd.data_of(i)) for i in range(STREAMS)} == {("hello", "end")}


def test_a_burst_arrives_complete_and_in_order(site: Site, channel: str) -> None:
    """500 events published back to back by another process arrive on 200 streams, in order."""
    expected = [f"event {number}" for number in range(500)]
    with Crowd(site.stream_url(channel), 200) as crowd:
        crowd.wait_opened(200, within_s=20)
        for data in expected:
            site.publisher.publish(data, channel=channel)
        crowd.wait_events(500, within_s=30)

        assert [i for i in range(200) if crowd.data_of(i) != expected] == []


def test_a_megabyte_arrives_whole(site: Site, channel: str) -> None:
    """An event of a megabyte, of several lines and scripts, arrives as it was published."""
    lines = [f"{number} čeština 日本語 🎈\u2028\x0b  " for number in range(30_000)]
    data = "\n".join(lines)
    assert len(data.encode()) > 1_000_000
    with site.read(channel) as reader:
        site.publisher.publish(data, channel=channel)
        site.publisher.publish("and on it goes", channel=channel)

        assert reader.next_event()["data"] == data
        assert reader.next_event()["data"] == "and on it goes"


def test_events_from_another_process_come_soon(site: Site, channel: str) -> None:
    """Of 100 events that another process publishes, 99 are with the client within 250 ms."""
    took_s = []
    with site.read(channel) as reader:
        for number in range(100):
            began = time.perf_counter()
            site.publisher.publish(str(number), channel=channel)
            assert reader.next_event()["data"] == str(number)
            took_s.append(time.perf_counter() - began)
    median_s, p99_s = sorted(took_s)[49], sorted(took_s)[98]
    print(f"another process's events: median {median_s * 1e3:.1f} ms, p99 {p99_s * 1e3:.1f} ms")

    assert p99_s < 0.25
