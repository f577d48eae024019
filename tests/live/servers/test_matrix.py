"""The reference names the servers that are tested, all of them and no others."""

from __future__ import annotations

from live.nginx.fronts import VARIANTS
from live.servers.kinds import GUNICORN_HELD, HANDED_OFF, HELD, LIVE
from live.servers.lifecycle import LIVES
from live.servers.matrix import BEHIND_NGINX, HANDS_OFF, HOLDS_THREADS, LIFECYCLE, table


def test_the_servers_that_hand_off() -> None:
    """The table of servers that hand streams off has a row for each that is tested."""
    assert table(HANDS_OFF).keys() == {*LIVE, *HANDED_OFF}


def test_the_servers_whose_threads_are_held() -> None:
    """The table of servers on which streams hold threads has a row for each that is tested."""
    assert table(HOLDS_THREADS).keys() == {*HELD, *GUNICORN_HELD}


def test_the_lives() -> None:
    """The table of what ends a worker has a row for each server that is put to it."""
    assert table(LIFECYCLE).keys() == LIVES.keys()


def test_the_ways_through_nginx() -> None:
    """The table of ways through nginx has a row for each that is tested."""
    assert table(BEHIND_NGINX).keys() == VARIANTS.keys()
