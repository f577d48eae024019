"""What processes tell each other about readers: orders, as the text of control entries.

Rules of this room: no clock, no socket, nothing of an application. A text that is no order of ours
is none, and no error: another version may say more.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

__all__ = ["BEGIN", "REVOKED_FOR_S", "Order", "revocation_of"]

#: The text of a control entry that orders nothing: with it a log begins.
BEGIN = "{}"

#: Seconds for which a revocation is remembered. No grant is good for longer.
REVOKED_FOR_S = 90 * 86_400.0

_DISCONNECT = "disconnect"


@dataclass(frozen=True, slots=True)
class Order:
    """End the streams that match all that is given: one at least."""

    channel: str | None = None
    subject: str | None = None

    def encode(self) -> str:
        """The text of a control entry."""
        given = {"channel": self.channel, "subject": self.subject}
        return json.dumps({"do": _DISCONNECT, **{k: v for k, v in given.items() if v is not None}})

    @classmethod
    def decode(cls, text: str) -> Order | None:
        """The order of a text; ``None`` where it is none."""
        try:
            said = json.loads(text)
            if said["do"] != _DISCONNECT:
                return None
            order = cls(said.get("channel"), said.get("subject"))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return None
        given = [value for value in (order.channel, order.subject) if value is not None]
        return order if given and all(isinstance(value, str) for value in given) else None


def revocation_of(subject: str) -> str:
    """The name of the record that says when a subject's grants were revoked.

    A checksum, because a broker's names have fewer letters than subjects, and a key is no place
    for a person's name.
    """
    return "revoked-" + hashlib.sha256(subject.encode("utf-8", "surrogatepass")).hexdigest()[:40]
