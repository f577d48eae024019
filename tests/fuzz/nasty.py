"""Texts and bytes of the kind that breaks parsers: ours with something wrong, and anything else."""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any

__all__ = ["binary", "damaged", "json_value", "one_of", "text"]

#: What begins, ends, separates or escapes something in one of the formats.
PIECES = (
    *("\r", "\n", "\r\n", "\n\n", "\0", " ", "\t", ":", "\v", "\f", "\x85", "\u2028", "\u2029"),
    *("data: ", "\ndata:", "id: 7", "event: x", "retry: 1", "retry: -1", "\ufeff", ":\n"),
    *("-", "_", ".", "m.", "m.00000000_", "aaaaaaaa-7", "aaaaaaaa-99999999999999999999", "0"),
    *("{", "}", "[", "]", '"', "\\", "\\u0000", "null", "NaN", "1e999", '{"data": 1}', '{"id":"'),
    *("&", "=", "%", "%00", "%0d%0a", "%ff", "+", ";", "channel=", "lastEventId=", "grant=", "?"),
    *("__control", "__keyevent@0__:set", "*", "..", "/", "\\N", "<script>", "é", "e\u0301"),
    *("HTTP/1.1 200 OK", "HTTP/1.1 ", "Transfer-Encoding: chunked", "Content-Length: 5"),
    *("٣", "\U0001f388", "\ud800", "\udc80", "A" * 300, "é" * 200),
)


def text(random: Random, most: int = 8) -> str:
    """A text of some pieces; may have surrogates, which no UTF-8 can."""
    parts = []
    for _ in range(random.randrange(most + 1)):
        way = random.random()
        if way < 0.6:
            parts.append(random.choice(PIECES))
        elif way < 0.9:
            parts.append("".join(chr(random.randrange(32, 127)) for _ in range(3)))
        else:
            parts.append(chr(random.randrange(0x110000)))
    return "".join(parts)


def binary(random: Random, most: int = 8) -> bytes:
    """Bytes: a text's, or any."""
    if random.random() < 0.2:
        return random.randbytes(random.randrange(40))
    return text(random, most).encode("utf-8", "surrogatepass")


def damaged(random: Random, good: str) -> str:
    """A good text with something put in, taken out, doubled or exchanged, most of the time."""
    for _ in range(random.randrange(4)):
        at, end = sorted(random.choices(range(len(good) + 1), k=2))
        way = random.randrange(4)
        if way == 0:
            good = good[:at] + random.choice(PIECES) + good[at:]
        elif way == 1:
            good = good[:at] + good[min(end, at + 4) :]
        elif way == 2:
            good = good[:end] + good[at:]
        elif at < len(good):
            good = good[:at] + chr(ord(good[at]) ^ 1) + good[at + 1 :]
    return good


def one_of(random: Random, *good: str) -> str:
    """One of these, damaged or not, or any text."""
    return damaged(random, random.choice(good)) if random.random() < 0.7 else text(random)


def json_value(random: Random, deep: int = 3) -> Any:
    """Whatever JSON can carry."""
    way = random.randrange(8 if deep else 6)
    scalars: Sequence[Any] = (None, True, random.randrange(-(2**70), 2**70), 1e300, "", 0)
    if way < 4:
        return random.choice(scalars)
    if way < 6:
        return text(random).encode("utf-8", "replace").decode()
    inner = [json_value(random, deep - 1) for _ in range(random.randrange(4))]
    if way == 6:
        return inner
    names = ("data", "type", "id", "retry", "channels", "start", "reader", "pid", text(random, 2))
    return {json.dumps(random.choice(names))[1:-1]: value for value in inner}
