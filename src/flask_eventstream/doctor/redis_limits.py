"""What a Redis server says of its limits, and which of them are too narrow for events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from flask_eventstream.doctor.report import Remark, fine, problem, unknown

__all__ = ["examine_redis"]

#: Of Redis' connections in use: beyond this a deploy, which doubles the processes, does not fit.
_NEARLY_ALL = 0.8


def examine_redis(says: Mapping[str, str], event_bytes: int) -> Iterator[Remark]:
    """Judge what a server says, for events of so many bytes at the most."""
    yield _clients(_number(says.get("connected_clients")), _number(says.get("maxclients")))
    yield _buffer(says.get("client-output-buffer-limit", "").split(), event_bytes)
    yield _memory(says.get("maxmemory_policy"), says.get("maxmemory", "0"))


def _clients(connected: int | None, most: int | None) -> Remark:
    if not connected or not most:
        return unknown("redis-unasked", what="maxclients")
    key = "redis-clients"
    if connected >= _NEARLY_ALL * most:
        return problem(key, connected=connected, most=most, wanted=2 * most)
    return fine(key, connected=connected, most=most)


def _buffer(words: list[str], event_bytes: int) -> Remark:
    at = words.index("pubsub") + 1 if "pubsub" in words else len(words)
    limits = [_number(word) for word in words[at : at + 3]]
    if len(limits) < 3 or None in limits:  # noqa: PLR2004  hard, soft, seconds
        return unknown("redis-unasked", what="client-output-buffer-limit")
    hard, soft, seconds = (number or 0 for number in limits)
    shown = f"{hard} {soft} {seconds}"
    # Zero is no limit. An event and its reply must fit, and Redis' default is 32 MB and 8 MB.
    if 0 < hard < 2 * event_bytes or 0 < soft < event_bytes:
        wanted = f"{max(32 << 20, 8 * event_bytes)} {max(8 << 20, 2 * event_bytes)} 60"
        return problem("redis-buffer", shown=shown, event=event_bytes, wanted=wanted)
    return fine("redis-buffer", shown=shown)


def _memory(policy: str | None, maxmemory: str) -> Remark:
    if not policy:
        return unknown("redis-unasked", what="maxmemory-policy")
    if policy != "noeviction" and maxmemory != "0":
        return problem("redis-evicts", policy=policy)
    shown = "unlimited" if maxmemory == "0" else maxmemory
    return fine("redis-memory", policy=policy, maxmemory=shown)


def _number(text: str | None) -> int | None:
    """A number as Redis writes one; ``None`` where it is something else."""
    return int(text) if text and text.isascii() and text.isdigit() else None
