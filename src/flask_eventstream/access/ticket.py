"""The doctor's ticket: to whom a stream's server speaks of itself.

``flask sse doctor`` asks for a stream with a ticket in the request header `HEADER`. Where it is
good, the response has a header of the same name that says how the server holds the stream; to
everybody else nothing changes. A ticket is good in one of two ways that a stranger does not have:

* it is signed with the application's ``SECRET_KEY``;
* it names a channel, impossible to guess, that is ended in the application's log. Whoever can do
  that can publish what they like anyway. So the doctor needs no ``SECRET_KEY``.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

from itsdangerous import BadSignature, TimestampSigner

__all__ = ["HEADER", "TICKET_S", "is_good", "make_ticket", "sign_ticket"]

HEADER = "SSE-Doctor"

#: Seconds for which a signature counts: a run of the doctor is over by then, and what somebody
#: found in a proxy's log is worth nothing.
TICKET_S = 600

_PREFIX = "sse-doctor-ticket-"
_SALT = b"flask_eventstream.access.ticket"

#: 128 bits, as hexadecimal digits: nobody guesses it.
_BYTES = 16

_Key = str | bytes


def make_ticket() -> str:
    """A new ticket, which is also the name of the channel to be ended."""
    return _PREFIX + secrets.token_hex(_BYTES)


def sign_ticket(ticket: str, key: _Key | None) -> str:
    """What stands in the header: the ticket, signed where there is a key."""
    return ticket if not key else TimestampSigner(key, salt=_SALT).sign(ticket).decode()


def is_good(shown: str, *, key: _Key | None, has_ended: Callable[[str], bool]) -> bool:
    """True where the header's value is a ticket that only the application's owner can have."""
    ticket = shown.partition(".")[0]
    if not ticket.startswith(_PREFIX) or len(ticket) != len(_PREFIX) + 2 * _BYTES:
        return False  # a channel of the application's own may be ended, and known to everybody
    if key:
        try:
            TimestampSigner(key, salt=_SALT).unsign(shown, max_age=TICKET_S)
        except BadSignature:
            pass  # the command may have another key in its environment
        else:
            return True
    return has_ended(ticket)
