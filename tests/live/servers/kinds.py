"""The WSGI servers that are put to the same few claims, beside those of tests/live."""

from __future__ import annotations

import os
from typing import NamedTuple

from harness.packages import eventlet, gunicorn23
from harness.servers import KINDS

__all__ = ["GUNICORN_HELD", "HANDED_OFF", "HELD", "LIVE", "TWO_THREADS", "Kind"]

TWO_THREADS = ("--threads", "2")


class Kind(NamedTuple):
    """A server as `harness.servers.serve` takes it."""

    kind: str
    options: tuple[str, ...] = ()
    oldest: bool = False
    """True for the oldest gunicorn that is supported, instead of the one in the environment."""

    @property
    def env(self) -> dict[str, str]:
        if self.kind.startswith("eventlet"):
            return {"PYTHONPATH": os.pathsep.join(map(str, eventlet()))}
        return {"PYTHONPATH": os.pathsep.join(map(str, gunicorn23()))} if self.oldest else {}


#: Server, as the reference names it, to how it is started. Each hands its streams off.
HANDED_OFF = {
    "gunicorn 23 sync": Kind("gunicorn-sync", oldest=True),
    "gunicorn 23 gthread": Kind("gunicorn-gthread", TWO_THREADS, oldest=True),
    "gunicorn 23 gevent": Kind("gunicorn-gevent", oldest=True),
    "gunicorn gevent_pywsgi": Kind("gunicorn-gevent-pywsgi"),
    "waitress": Kind("waitress"),
    "cheroot": Kind("cheroot"),
    "gevent.pywsgi": Kind("gevent-pywsgi"),
    "eventlet": Kind("eventlet"),
    "eventlet, patched": Kind("eventlet-patched"),
    "uWSGI --http-socket": Kind("uwsgi-http-socket"),
    "uWSGI --http": Kind("uwsgi-http"),
    "uWSGI --http11-socket": Kind("uwsgi-http11-socket"),
}

#: Those of tests/live, which puts more claims to them.
LIVE = {
    "gunicorn sync": "gunicorn-sync",
    "gunicorn gthread": "gunicorn-gthread",
    "gunicorn gevent": "gunicorn-gevent",
    "Werkzeug": "werkzeug",
    "Werkzeug --without-threads": "werkzeug-unthreaded",
    "Werkzeug --debug": "werkzeug-debug",
}
assert tuple(LIVE.values()) == KINDS

#: Servers on which each stream holds a thread; how many they let streams hold, and why.
HELD = {
    "mod_wsgi, daemon mode": (Kind("mod-wsgi"), 2, "does not show its sockets"),
    "Granian, WSGI": (Kind("granian-wsgi"), 1, "does not show its sockets"),
    "waitress, reading ahead": (Kind("waitress-lookahead"), 1, "channel_request_lookahead at 0"),
}

#: gunicorn where each stream holds a thread; the options, beside a certificate for the first one.
GUNICORN_HELD = {
    "gunicorn, TLS of its own": (),
    "gunicorn, HTTP/2": ("--http-protocols", "h2,h1", "--http2-cleartext", "prior-knowledge"),
}
