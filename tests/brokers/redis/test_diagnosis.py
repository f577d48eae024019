"""What Redis' errors and INFO mean; without Redis."""

from __future__ import annotations

from typing import Any

import pytest
import redis.sentinel
from redis._parsers.base import BaseParser
from redis.backoff import NoBackoff
from redis.retry import Retry

from flask_eventstream.brokers.redis.diagnosis import PASSING, count_online, diagnose, parse_info


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        ("WRONGPASS invalid username-password pair or user is disabled.", "refuses the password"),
        ("NOAUTH Authentication required.", "wants a password"),
        ("NOPERM this user has no permissions to run the 'evalsha' command", "may not do that"),
        ("NOPERM No permissions to access a key", "may not do that"),
        ("OOM command not allowed when used memory > 'maxmemory'.", "memory is full"),
        ("READONLY You can't write against a read only replica.", "is a replica"),
        ("MISCONF Redis is configured to save RDB snapshots, but", "can't write its own file"),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", "another type"),
        ("LOADING Redis is loading the dataset in memory", "still loading"),
        ("MASTERDOWN Link with MASTER is down and replica-serve-stale-data is", "without its"),
        ("NOREPLICAS Not enough good replicas to write.", "too few replicas"),
        ("ERR max number of clients reached", "too many connections"),
        ("ERR unknown command 'INFO', with args beginning with: ", "or it was renamed"),
        ("CROSSSLOT Keys in request don't hash to the same slot", "a node of a cluster"),
        ("ERR SELECT is not allowed in cluster mode", "a node of a cluster"),
        ("ERR This instance has cluster support disabled", "it is in no cluster"),
        ("ERR DB index is out of range", "no such database"),
    ],
)
def test_diagnoses(said: str, meaning: str) -> None:
    """What a server says of itself, as redis-py passes it on, is explained."""
    assert meaning in diagnose(BaseParser.parse_error(said))[0]


def test_sentinels_without_an_answer() -> None:
    """Where no Sentinel names the primary, that is said, and not what redis-py's objects hold."""
    once = {"retry": Retry(NoBackoff(), 0)}
    sentinel: Any = redis.sentinel.Sentinel([("127.0.0.1", 1)], sentinel_kwargs=once)
    with pytest.raises(redis.RedisError) as caught:
        sentinel.discover_master("mine")

    assert diagnose(caught.value)[0] == (
        "no Sentinel names the primary (No master found for 'mine')"
    )


def test_an_unknown_error_is_shown() -> None:
    """An error that nobody has met yet is passed on as it is, and may pass."""
    assert diagnose(OSError("something new")) == ("something new", PASSING)
    assert diagnose(TimeoutError())[0] == "TimeoutError"


def test_a_slot_elsewhere() -> None:
    """A server that says where a slot is, is in a cluster; how to name that is said."""
    why, remedy = diagnose(redis.exceptions.MovedError("3300 127.0.0.1:7000"))

    assert why == "it is a node of a cluster (MOVED 3300 127.0.0.1:7000)"
    assert remedy == "write redis+cluster:// in place of redis:// in the URL"


def test_info_is_read() -> None:
    """INFO is names and values; a replica that keeps up is counted, another is not."""
    info = parse_info(
        b"# Replication\r\nrole:master\r\nslaves_waiting_psync:0\r\n"
        b"slave0:ip=::1,port=7000,state=online,offset=1,lag=0\r\n"
        b"slave1:ip=::1,port=7001,state=wait_bgsave,offset=0,lag=0\r\n"
    )

    assert info["role"] == "master"
    assert count_online(info) == 1
