"""Everything that the doctor says. Texts and nothing else; findings.py chooses among them.

Each finding has a headline, why it matters, and the lines that mend it; what is fine has one line.
A word in braces is filled in with what was seen. Lines that mend are meant to be copied.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

__all__ = ["BACK_AT_NGINX", "FINDINGS", "FINE", "HELD", "SOCKET_UNIT", "Finding", "Level"]


class Level(enum.Enum):
    """How much a finding matters."""

    PROBLEM = "problem"
    """Streams do not work as they should. The command's exit code is 1."""
    ADVICE = "advice"
    """It works, and could be better, or could not be judged."""
    UNKNOWN = "unknown"
    """It could not be seen. One line, without a remedy."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What may be wrong, and how it is mended."""

    level: Level
    headline: str
    why: str
    mend: str


def _problem(headline: str, why: str, mend: str) -> Finding:
    return Finding(Level.PROBLEM, headline, why, mend.strip("\n"))


def _advice(headline: str, why: str, mend: str) -> Finding:
    return Finding(Level.ADVICE, headline, why, mend.strip("\n"))


_TLS_AT_NGINX = """
server {{
    listen 443 ssl http2;    # nginx 1.25.1 and newer: listen 443 ssl; http2 on;
    ssl_certificate /etc/ssl/shop.pem;
    ssl_certificate_key /etc/ssl/shop.key;
    location / {{ proxy_pass http://127.0.0.1:8000; }}
}}
"""

#: A page that was left may lie in the browser's back/forward cache, and its stream with it.
_ONE_STREAM = """\
const source = new EventSource("{path}?channel=a&channel=b");    // one for several channels
addEventListener("pagehide", () => source.close());    // and none for a page that was left
"""

_GUNICORN = "pip install gunicorn\ngunicorn --workers 2 --bind 127.0.0.1:8000 {app}"

_UWSGI = "uwsgi --http-socket 127.0.0.1:8000 --module {app} --enable-threads --threads 4"

_UNCOMPRESSED = """
# before the middleware of the app that compresses:
if environ["PATH_INFO"] == "{path}":
    environ.pop("HTTP_ACCEPT_ENCODING", None)
"""

_UNBUFFERED = """
# nginx: in the location of {path}
proxy_buffering off;
# and remove X-Accel-Buffering from proxy_ignore_headers, if it is there
"""

#: An EventSource stops for good at any status but 200.
BACK_AT_NGINX = """
# nginx: in the location of the stream
error_page 502 503 504 = @back;
# and beside it
location @back {
    default_type text/event-stream;
    return 200 "retry: 2000\\n\\n";
}
"""

#: With any proxy: the socket stays while the app restarts, and requests wait in it.
SOCKET_UNIT = """
# /etc/systemd/system/shop.socket, for shop.service, which starts the app without --bind
[Socket]
ListenStream=127.0.0.1:8000
[Install]
WantedBy=sockets.target
"""

FINDINGS: dict[str, Finding] = {
    # ---- the application alone
    "broker-away": _problem(
        "The broker takes no events",
        "{broker}: {why}. Nothing that the app publishes reaches anybody.",
        "flask sse publish news hello    # says what the broker answers",
    ),
    "memory": _advice(
        "memory:// can't be judged from here",
        "It is the memory of one process: only readers of the process that publishes get an event,"
        " and this command is another process, so it sent no probe.",
        'SSE_BROKER_URL = "sqlite:////var/lib/shop/events.db"    # or Redis, or leave it out',
    ),
    "memory-several": _problem(
        "memory:// does not reach the other processes of this server",
        "The server runs several processes, and readers get only what their own process publishes.",
        'SSE_BROKER_URL = "sqlite:////var/lib/shop/events.db"    # or Redis, or leave it out',
    ),
    "no-uvloop": _problem(
        "uvloop is not installed",
        "On Python's own loop a busy request slows every stream of its process down, and gevent"
        " workers hold a greenlet for each stream.",
        "pip install uvloop",
    ),
    "redis-clients": _problem(
        "Redis has hardly a connection left",
        "{connected} of {most} clients are connected. When none is left, publishing fails and"
        " readers wait.",
        """
maxclients {wanted}    # in redis.conf, and at once: redis-cli CONFIG SET maxclients {wanted}
""",
    ),
    "redis-buffer": _problem(
        "Redis cuts hubs off too soon",
        "client-output-buffer-limit pubsub is {shown}, and a single event may have {event} bytes:"
        " a hub that is busy for a moment is cut off and has to read everything from the log.",
        """
client-output-buffer-limit pubsub {wanted}    # in redis.conf, and at once:
redis-cli CONFIG SET client-output-buffer-limit "pubsub {wanted}"
""",
    ),
    "redis-evicts": _problem(
        "Redis may throw events away",
        "maxmemory-policy is {policy}, which takes our keys when memory is short, and nobody can"
        " notice.",
        """
maxmemory-policy noeviction    # in redis.conf, and at once:
redis-cli CONFIG SET maxmemory-policy noeviction
""",
    ),
    # ---- the way to the address
    "no-host": _problem(
        "There is no host {host}",
        "Its name can't be resolved here: {why}.",
        "flask sse doctor https://the-name-that-users-type{path}",
    ),
    "refused": _problem(
        "Nobody listens on port {port} of {host}",
        "The connection was refused: {why}.",
        "gunicorn --workers 2 --bind 127.0.0.1:{port} {app}    # or start nginx",
    ),
    "tls": _problem(
        "Browsers will not trust {host}",
        "TLS failed: {why}.",
        """
# nginx: the whole chain, and the name {host} in it
ssl_certificate /etc/letsencrypt/live/{host}/fullchain.pem;
ssl_certificate_key /etc/letsencrypt/live/{host}/privkey.pem;
""",
    ),
    "unreachable": _problem(
        "{host} can't be reached",
        "No connection to port {port}: {why}.",
        "flask sse doctor http://127.0.0.1:8000{path}    # on the server itself, past the proxy",
    ),
    "no-answer": _problem(
        "The server took the connection and does not answer",
        "Nothing came within {waited:g} s, not even to a HEAD request. Most likely all threads of"
        " the server are used up, by streams that hold one each, or by slow requests.",
        """
SSE_HANDOFF = "auto"    # the default: streams hold no thread
gunicorn --workers 2 --threads 8 {app}    # and slow requests have others beside them
""",
    ),
    "redirect": _problem(
        "The address leads elsewhere",
        "It answers {status} and sends the browser to {location}: another address for the stream,"
        " or the login page.",
        'flask sse doctor --header "Cookie: session=…" {url}    # as a user who is logged in',
    ),
    "forbidden": _problem(
        "A rule of the app refuses the stream",
        "It answers {status} to a reader of the channel {channel}.",
        'flask sse doctor --header "Cookie: session=…" {url}    # as a user who is logged in',
    ),
    "not-found": _problem(
        "There is no stream at this address",
        "It answers {status}. The app has its stream at {path}.",
        "flask sse doctor {should_be}",
    ),
    "ended": _problem(
        "The channel is ended",
        "It answers 204, because sse.end({channel!r}) was called: browsers stay away.",
        "flask sse publish {quoted_channel} hello    # opens it again",
    ),
    "no-upstream": _problem(
        "The proxy does not reach the app",
        "It answers {status}, at which browsers stop for good. The server behind it is not running,"
        " or listens elsewhere.",
        """
gunicorn --workers 2 --bind 127.0.0.1:8000 {app}
proxy_pass http://127.0.0.1:8000;    # nginx: the same address
""",
    ),
    "failed": _problem(
        "The address does not answer with a stream",
        "It answers {status}, and browsers stop for good at any status but 200. The log of the"
        " server says why.",
        "curl -i -N {url}",
    ),
    "not-a-stream": _problem(
        "The answer is no event stream",
        "Its type is {content_type}, and browsers want text/event-stream. The app has its stream"
        " at {path}.",
        "flask sse doctor {should_be}",
    ),
    # ---- the stream itself
    "sent-away": _problem(
        "The stream was sent away at once",
        "{why}. Its reader comes back again and again.",
        """
ulimit -n 65536    # before the server is started; systemd: LimitNOFILE=65536
SSE_MAX_STREAMS = 20000    # if it is set
""",
    ),
    "resting": _problem(
        "The app is away, and the proxy tells readers to come back",
        "The whole stream was one retry: line, as nginx sends it for an app that does not answer.",
        "gunicorn --workers 2 --bind 127.0.0.1:8000 {app}    # is it running?",
    ),
    "broken": _problem(
        "What {host} answers breaks the rules of HTTP",
        "Browsers drop such an answer, and proxies do: {why}.",
        "curl -i -N {url}    # which of the servers on the way sends it?",
    ),
    "buffered": _problem(
        "A proxy keeps events back",
        "A short event did not come within {waited:g} s{proof}. Something on the way"
        " collects what the app sends until a buffer is full.",
        _UNBUFFERED,
    ),
    "withheld": _problem(
        "A proxy keeps the whole stream back",
        "The app answers a HEAD request at once, but of the stream nothing came within"
        " {waited:g} s{proof}. Something on the way waits for its end, which never comes.",
        _UNBUFFERED,
    ),
    "gzip": _problem(
        "Compression keeps events back",
        "With gzip a short event did not come within {waited:g} s, and without it did after"
        " {plain:.2f} s: the compressor waits for more.",
        "gzip off;    # nginx: in the location of {path}" + _UNCOMPRESSED,
    ),
    "garbled": _problem(
        "The stream says that it is compressed, and is not",
        "The head has Content-Encoding: {encoding} and something else follows: browsers show"
        " nothing. Something on the way adds the header, and does not compress.",
        "# nginx: remove this from the location of {path}\nadd_header Content-Encoding gzip;",
    ),
    "other-broker": _problem(
        "The server uses another broker than this command",
        "The server has {theirs}, this command {ours}. What is published from here, from tasks and"
        " scripts does not reach its readers.",
        "SSE_BROKER_URL = {theirs!r}    # in both: is the same environment loaded?",
    ),
    "lost-probe": _problem(
        "The probe did not arrive",
        "The stream opened at once, and an event that was published here did not come within"
        " {waited:g} s. Most likely the server has another broker than {ours}: another environment,"
        " instance folder or container.",
        "SSE_BROKER_URL = {ours!r}    # for the server, too",
    ),
    "cut-idle": _problem(
        "Idle streams are cut off",
        "The stream was cut after {silent:.1f} s of silence, and a heartbeat comes every"
        " {heartbeat:g} s. Readers come back again and again.",
        """
SSE_HEARTBEAT_S = {lower:g}
proxy_read_timeout {higher:.0f}s;    # or, in nginx: in the location of {path}
""",
    ),
    "cut": _problem(
        "The stream was cut off",
        "It ended {silent:.1f} s after its last byte, before the probe came. A worker that is"
        " killed ends so, and so does a proxy that loses its upstream.",
        "gunicorn --log-level debug {app}    # its log, and the proxy's, say who did it",
    ),
    "no-heartbeat": _problem(
        "Heartbeats do not come through",
        "Nothing came for {silent:.1f} s, though the app sends a heartbeat every {heartbeat:g} s:"
        " something on the way keeps single bytes back, or the server has another SSE_HEARTBEAT_S.",
        _UNBUFFERED,
    ),
    "slow-heartbeat": _advice(
        "Heartbeats are further apart than a minute",
        "One comes every {heartbeat:g} s, and it was not waited for. nginx, load balancers and"
        " mobile networks cut what is silent for a minute.",
        "SSE_HEARTBEAT_S = 15    # the default",
    ),
    "cache-control": _advice(
        "Cache-Control does not arrive as the app sends it",
        "It is {cache_control}, where the app says {wanted}. What compresses on the way, as"
        " development servers do, then keeps events back, and a cache may answer with an old"
        " stream.",
        "# nginx: remove from the location of {path}: expires, proxy_hide_header Cache-Control",
    ),
    "restart": _advice(
        "Pages may stop for good when the app restarts",
        "While the app is away {proxy} answers 502, and any status but 200 ends an EventSource"
        " for good. Whether it was told better already can't be seen from here.",
        SOCKET_UNIT,
    ),
    "held": _problem("Each stream holds a thread of {server}", "{why}. {room}", _GUNICORN),
    "held-many": _advice("Each stream holds a thread of {server}", "{why}. {room}", _GUNICORN),
    "six-tls": _advice(
        "Browsers open six connections to this host at most",
        "It speaks HTTP/1.1 only, where each open tab uses one of them up; with the seventh stream"
        " the site hangs.",
        """
listen 443 ssl http2;    # nginx 1.25.1 and newer: listen 443 ssl; http2 on;
"""
        + _ONE_STREAM,
    ),
    "six": _advice(
        "Without TLS browsers open six connections to this host at most",
        "They speak HTTP/1.1 only, where each open tab uses one of them up; with the"
        " seventh stream the site hangs.",
        _TLS_AT_NGINX + _ONE_STREAM,
    ),
}

#: Why a stream holds a thread, or can't be had → what helps. The first text in the reason counts.
HELD: tuple[tuple[str, str], ...] = (
    ("SSE_HANDOFF is off", 'SSE_HANDOFF = "auto"'),
    ("uvloop is not installed", "pip install uvloop"),
    ("ends TLS itself", _TLS_AT_NGINX),
    ("shares one connection", _TLS_AT_NGINX),
    ("reads ahead", "waitress-serve --channel-request-lookahead=0 {app}"),
    ("leave `processes` at 1", "app.run(threaded=True)    # and no `processes`"),
    (
        "EventStreamASGI(app)",
        """
from flask_eventstream.asgi import EventStreamASGI
asgi = EventStreamASGI(app)    # of {app}: this is what the ASGI server is to serve
""",
    ),
    ("--threads is what", _UWSGI),
    ("with --enable-threads", _UWSGI),
    (
        "middleware keeps back",
        "# give {app} the server's whole environ: move or drop that middleware",
    ),
    ("", _GUNICORN),
)

FINE: dict[str, str] = {
    "broker": "the broker takes events: {broker}",
    "uvloop": "uvloop is there",
    "redis-clients": "Redis has room for connections: {connected} of {most}",
    "redis-buffer": "Redis lets hubs lag: client-output-buffer-limit pubsub {shown}",
    "redis-memory": "Redis throws nothing away: maxmemory-policy {policy}, maxmemory {maxmemory}",
    "redis-unasked": "{what}: Redis does not say",
    "answer": "the address answers: {status} {content_type} after {after:.2f} s",
    "opens": "the stream opens at once",
    "probe": "a probe arrived {after:.2f} s after it was published",
    "gzip": "the stream is compressed, and nothing waits because of it",
    "heartbeat": "a heartbeat came after {silent:.1f} s of silence",
    "lifetime": "the stream reached its lifetime of {lifetime:g} s before a heartbeat was due",
    "handed-off": "streams hold no thread of {server}",
    "same-broker": "the server uses the same broker",
    "http2": "browsers get HTTP/2 here, and with it any number of streams",
    "not-told": "whether streams hold threads: the server did not take the doctor's ticket",
}
