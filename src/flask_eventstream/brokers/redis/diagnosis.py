"""What Redis' answers about itself mean: its errors, and INFO. Answers in, values out.

A fault that stays is told from one that passes: who is told to try again does so for ever.
"""

from __future__ import annotations

from collections.abc import Mapping

import redis

__all__ = ["PASSING", "count_online", "diagnose", "is_of_one_channel", "parse_info"]

#: What to do about a fault that passes by itself.
PASSING = "try again"

_RULES = "give it the rules of docs/reference/redis.md"
_CLUSTER = "write redis+cluster:// in place of redis:// in the URL"
_SCHEME = "write rediss:// where the server speaks TLS, and redis:// where it does not"

#: (what Redis' error contains, what it means here, what to do). redis-py takes the first word of
#: most errors away, so these are words of the rest, too.
_DIAGNOSES = (
    ("username-password", "it refuses the password", "correct the user and password in the URL"),
    ("without any password configured", "it has no password", "take it out of the URL"),
    ("Authentication required", "it wants a password", "put it into the URL: redis://:SECRET@host"),
    # What it says of a command of more than ten words (networking.c).
    ("unauthenticated", "it wants a password", "put it into the URL: redis://:SECRET@host"),
    ("protected mode", "it takes no clients from elsewhere", "give it a password, and the URL too"),
    ("permissions", "its user may not do that", _RULES),
    ("user executing the script can't", "its user may not do that", _RULES),
    (
        "unknown command",
        "it lacks a command that we need, or it was renamed",
        "let it have INFO, EVAL, EVALSHA, HMGET and MULTI by their names (rename-command)",
    ),
    ("maxmemory", "its memory is full", "raise maxmemory, or lower SSE_HISTORY_LENGTH"),
    ("read only replica", "it is a replica, which can't be written", "name the primary in the URL"),
    ("MISCONF", "it can't write its own file", "look at its disk and its log"),
    ("unable to persist", "it can't write its own file", "look at its disk and its log"),
    ("WRONGTYPE", "one of our keys is of another type", "choose another ?prefix= in the URL"),
    ("wrong kind of value", "one of our keys is of another type", "choose another ?prefix= there"),
    ("loading the dataset", "it is still loading its file", "try again in a moment"),
    ("Link with MASTER", "it is a replica without its primary", "name the primary in the URL"),
    ("NOREPLICAS", "too few replicas are connected", "look at its replicas"),
    ("good replicas to write", "too few replicas are connected", "look at its replicas"),
    ("max number of clients", "it has too many connections", "raise maxclients"),
    ("no Sentinel names", "the Sentinels do not know it", "look at them, and at the URL"),
    ("No master found", "no Sentinel names the primary", "look at the Sentinels, and at the URL"),
    (
        "cluster support disabled",
        "it is in no cluster",
        "write redis:// in place of redis+cluster://",
    ),
    ("hash to the same slot", "it is a node of a cluster", _CLUSTER),
    ("not allowed in cluster mode", "it is a node of a cluster", f"{_CLUSTER}, and no database"),
    ("DB index is out of range", "it has no such database", "lower the number in the URL"),
    ("WRONG_VERSION_NUMBER", "it does not speak TLS", _SCHEME),
    ("wrong version number", "it does not speak TLS", _SCHEME),
    ("record layer failure", "it does not speak TLS", _SCHEME),
    ("Hostname mismatch", "its certificate is of another host", "name it by that in the URL"),
    ("IP address mismatch", "its certificate is of another host", "name it by that in the URL"),
    ("CERTIFICATE_VERIFY_FAILED", "nobody known signed its certificate", "add ?ssl_ca_certs=FILE"),
    ("Protocol Error", "it is no Redis server, or speaks TLS", f"look at the URL: {_SCHEME}"),
    ("not known", "its host has no address", "correct the host in the URL, or the name service"),
    ("Connection refused", "nothing listens there", "start it, or correct host and port"),
    ("No such file", "a file is missing", "correct the path in the URL"),
)

_MOVED = (redis.exceptions.MovedError, redis.exceptions.AskError)


def is_of_one_channel(error: Exception) -> bool:
    """True where an error may be about the keys of one channel, and others can be read."""
    if isinstance(error, redis.exceptions.NoPermissionError):
        return True
    return "wrong kind of value" in str(error)


def diagnose(error: Exception) -> tuple[str, str]:
    """What an error means, and what to do."""
    # Behind " : " redis-py shows each Sentinel's client as an object, with all it has.
    text = str(error).partition(" : ")[0]
    if isinstance(error, _MOVED):
        return f"it is a node of a cluster (MOVED {text})", _CLUSTER
    for sign, why, remedy in _DIAGNOSES:
        if sign in text:
            return f"{why} ({text.rstrip('.')})", remedy
    return text.rstrip(".") or type(error).__name__, PASSING


def parse_info(answer: bytes) -> Mapping[str, str]:
    """What ``INFO`` says, one text for each name."""
    lines = answer.decode(errors="replace").splitlines()
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}


def count_online(replication: Mapping[str, str]) -> int:
    """How many replicas keep up, by ``INFO replication``."""
    return sum(
        "state=online" in value.split(",")
        for name, value in replication.items()
        if name.startswith("slave")
    )
