"""The part of an `EventStream` that makes links: ``sse.url(…)``, and ``sse_url`` in templates."""

from __future__ import annotations

import dataclasses
import logging
import secrets
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, has_app_context, url_for

from flask_eventstream.access.grant import Grant
from flask_eventstream.access.links import QUERY, Link, sign_link
from flask_eventstream.app.by_link import keys_of
from flask_eventstream.app.registration import Registration
from flask_eventstream.app.registry import registry_of
from flask_eventstream.brokers import HasRecords, check_channel
from flask_eventstream.errors import BrokerUnavailable, InvalidGrant
from flask_eventstream.event import Name
from flask_eventstream.state import AppState

__all__ = ["Linking"]

_LOGGER = logging.getLogger("flask_eventstream")

#: A revocation is remembered for so long, and no link is good for longer.
_MAX_VALID_S = 90 * 86_400

#: gunicorn's limit on a request line, the narrowest of the servers'.
_REQUEST_LINE_BYTES = 4094

#: Of that line what is not the address: "GET " and " HTTP/1.1"; and what a client may add to it,
#: which can't set headers: "&lastEventId=…", "&client=…".
_BESIDE_BYTES = 13 + 256

#: Of a link's own name: nobody finds a second one.
_NAME_BYTES = 9


class Linking(Registration):
    """What an `EventStream` grants by an address."""

    def url(
        self,
        *channels: Name | bytes,
        subject: str | int | None = None,
        info: Mapping[str, Any] | None = None,
        valid_s: float = 3600,
        open_within_s: float | None = None,
        **variables: Any,
    ) -> str:
        """A signed link: the address of a stream of exactly these channels, for who has it.

        It needs no cookie, works across origins, and carries where the log stands now, so that
        nothing is missed which is published before the page opens it. No rule is asked; guards are.
        After its time an open stream gets ``stream-expired`` and ends, and who comes back gets 204.
        Also in templates, as ``sse_url``.

        **The address is a key.** Keep it out of logs, as you would a password.

        Waits for the broker as a request for a stream does. While the broker is away the link is
        made all the same, and begins when it is opened.

        Args:
            channels: What it grants; one at least.
            subject: Whom it is for, so that `disconnect` and `revoke` find it.
            info: What the other members of its channels see of its reader; at most 1 KB as JSON.
            valid_s: Seconds for which it is good, 90 days at the most.
            open_within_s: Seconds within which it must be opened, or it is void. Once opened it
                serves its reader's reconnects for ``valid_s``. ``None``: whenever.
            variables: Those of the stream's address, and what else ``flask.url_for`` takes:
                ``_external=True``.

        Raises:
            InvalidGrant: A value that can't be one, or a link too long for an address.
            InvalidChannel: A channel that can't be one, or too many.
            RuntimeError: The application has no ``SECRET_KEY``, or there is none here.
        """
        app = self._app()
        stream = self._meant(app)
        state: AppState = stream._state(app)  # noqa: SLF001  of this package
        keys = keys_of(app)
        if not keys:
            raise RuntimeError(
                f"links are signed, and {app} has no key: set SECRET_KEY, to"
                " secrets.token_hex() for example, the same in all its processes"
            )
        if not channels:
            raise InvalidGrant("channels", channels, "are missing: name what the link grants")
        names = tuple(sorted({check_channel(channel) for channel in channels}))
        state.admission.check_channels(len(names))
        grant = Grant(subject, info)  # type: ignore[arg-type]  # it takes a number, too
        valid_s = _seconds("valid_s", valid_s)
        now = time.time()
        link = Link(names, now, now + valid_s, subject=grant.subject, info=grant.info)
        if open_within_s is not None:
            if not isinstance(state.broker, HasRecords):
                kind = type(state.broker).__name__
                raise TypeError(f"open_within_s: a broker of {kind} can't remember what was opened")
            link = dataclasses.replace(
                link,
                open_until=now + _seconds("open_within_s", open_within_s),
                name=secrets.token_urlsafe(_NAME_BYTES),
            )
        link = dataclasses.replace(link, position=_position(state, names))
        token = sign_link(link, keys=keys, application=app.name)
        return _address(app, stream, {**variables, QUERY: token})


def _position(state: AppState, channels: tuple[str, ...]) -> str | None:
    try:
        return state.position_of(channels)
    except BrokerUnavailable as error:
        _LOGGER.warning("A link of %s begins when it is opened: %s", channels, error)
        return None


def _address(app: Flask, stream: Any, values: dict[str, Any]) -> str:
    endpoint = registry_of(app).endpoints[stream]
    if has_app_context():
        address = url_for(endpoint, **values)  # of the request's own host and prefix, where it is
    else:
        with app.app_context():
            address = url_for(endpoint, **values)
    parts = urlsplit(address)
    size_bytes = len(parts.path) + 1 + len(parts.query)
    if size_bytes > _REQUEST_LINE_BYTES - _BESIDE_BYTES:
        most = _REQUEST_LINE_BYTES - _BESIDE_BYTES
        why = f"make an address of {size_bytes} bytes, and servers take {most}"
        why = f"{why}: name fewer channels, with shorter names, and less info"
        raise InvalidGrant("values", "", why)
    return address


def _seconds(name: str, value: object) -> float:
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not good or not 0 < value <= _MAX_VALID_S:  # type: ignore[operator]
        raise InvalidGrant(name, value, f"must be seconds, more than 0 and at most {_MAX_VALID_S}")
    return float(value)  # type: ignore[arg-type]
