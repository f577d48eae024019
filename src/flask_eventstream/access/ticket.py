"""The doctor's ticket: to whom a stream's server speaks of itself.

``flask sse doctor`` asks for a stream with a ticket in the request header `HEADER`. Where it is
good, the response has a header of the same name that says how the server holds the stream; to
everybody else nothing changes. A ticket is good for ten minutes, and in one of two ways that a
stranger does not have:

* it is signed with the application's ``SECRET_KEY``;
* it names a channel, impossible to guess, that is ended in the application's log. Whoever can do
  that can publish what they like anyway. So the doctor needs no ``SECRET_KEY``.

The doctor opens the channel again when it leaves. One that was killed can't; so the time is part
of the channel's name, and an ended channel is worth as little as an old signature.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable

from itsdangerous import BadSignature, Signer

__all__ = [
    "HEADER",
    "TICKET_S",
    "is_good",
    "is_own_channel",
    "make_own_channel",
    "make_ticket",
    "sign_ticket",
]

HEADER = "SSE-Doctor"

#: Seconds for which a ticket counts: a run of the doctor is over by then, and what somebody found
#: in a proxy's log is worth nothing. Before its time as well: the clocks of two machines differ.
TICKET_S = 600

_PREFIX = "sse-doctor-ticket-"

#: A channel on which nobody publishes but a doctor.
_OWN_CHANNEL = re.compile(r"sse-doctor-[0-9a-f]{16}", re.ASCII)
_SALT = b"flask_eventstream.access.ticket"

#: Of the time, in hexadecimal digits.
_TIME_DIGITS = 10

#: 128 bits, as hexadecimal digits: nobody guesses it.
_BYTES = 16

_Key = str | bytes


def make_ticket(now_s: float) -> str:
    """A new ticket, which is also the name of the channel to be ended. ``now_s`` is Unix time."""
    return f"{_PREFIX}{int(now_s):0{_TIME_DIGITS}x}{secrets.token_hex(_BYTES)}"


def make_own_channel() -> str:
    """A new channel for a doctor's own events."""
    return f"sse-doctor-{secrets.token_hex(8)}"


def is_own_channel(channel: str) -> bool:
    """True for what `make_own_channel` makes: whoever has a ticket may read it."""
    return _OWN_CHANNEL.fullmatch(channel) is not None


def sign_ticket(ticket: str, key: _Key | None) -> str:
    """What stands in the header: the ticket, signed where there is a key."""
    return ticket if not key else Signer(key, salt=_SALT).sign(ticket).decode()


def is_good(
    shown: str, *, key: _Key | None, now_s: float, has_ended: Callable[[str], bool]
) -> bool:
    """True where the header's value is a ticket that only the application's owner can have."""
    if not shown.isascii():
        return False
    ticket = shown.partition(".")[0]
    # A channel of the application's own may be ended, and known to everybody.
    if not ticket.startswith(_PREFIX) or not _is_of_today(ticket.removeprefix(_PREFIX), now_s):
        return False
    if key:
        try:
            Signer(key, salt=_SALT).unsign(shown)
        except BadSignature:
            pass  # the command may have another key in its environment
        else:
            return True
    return has_ended(ticket)


def _is_of_today(digits: str, now_s: float) -> bool:
    if len(digits) != _TIME_DIGITS + 2 * _BYTES or not set(digits) <= set("0123456789abcdef"):
        return False
    return abs(now_s - int(digits[:_TIME_DIGITS], 16)) <= TICKET_S
