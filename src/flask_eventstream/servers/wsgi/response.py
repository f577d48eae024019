"""The way out under WSGI: the connection is handed off, or else a worker's thread holds it.

A response of this class is made by a view like any other and passes through ``after_request``. When
the server calls it, the client's connection is given to the hub (swap.py), and the server's
thread is free at once. Where no connection can be had, the hub writes into one end of a socket
pair, and the server's thread passes on what comes out of the other: the hub never knows.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from flask_eventstream.event import Event
from flask_eventstream.hub.admission import Refusal, Refused
from flask_eventstream.hub.adoption import Adoption, ServerConnection
from flask_eventstream.hub.request import StreamRequest
from flask_eventstream.hub.thread import HubThread, can_run, hub_thread
from flask_eventstream.servers.diagnosis import diagnose
from flask_eventstream.servers.pump import Pump, close_source
from flask_eventstream.servers.wsgi.body import BodyLost, keep_environ, take_in
from flask_eventstream.servers.wsgi.held import Held
from flask_eventstream.servers.wsgi.identify import Identified, identify
from flask_eventstream.servers.wsgi.known import Client
from flask_eventstream.servers.wsgi.swap import swap, swap_back
from flask_eventstream.state import SLOT, AppState, Slot

__all__ = ["EventStreamResponse", "Opening"]

#: Milliseconds for which sent bytes may stay unacknowledged: a host that vanished is noticed two
#: heartbeats later, not after the kernel's quarter of an hour (RFC 5482).
_USER_TIMEOUT_MS = 30_000

_HTTP_OK = 200

_NO_DESCRIPTOR = (errno.EMFILE, errno.ENFILE)

#: A stream that holds a thread gives it back after so many seconds, and the client comes back and
#: resumes: others get their turn. Where it holds the server's only thread, sooner than gunicorn
#: would kill the worker (30 s), shortened by the usual fifth.
_HELD_LIFETIME_S = 300.0
_ONLY_THREAD_LIFETIME_S = 20.0


@dataclass(frozen=True, slots=True)
class Opening:
    """What a view decided about a stream."""

    state: AppState
    request: StreamRequest
    source: Iterable[object] | None = None
    """Instead of channels: the application's own iterable."""
    to_event: Callable[[object], Event] = Event
    """Makes an event of what the iterable yields."""
    diagnosed: bool = False
    """True where the client has a ticket (see access): the head says how the stream is held."""


class EventStreamResponse:
    """Mixed into an application's response class; makes its response an event stream."""

    opening: Opening
    # An event stream has no length, whatever its empty iterable may say.
    automatically_set_content_length = False

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """Called by the server, on its thread, after everything that Flask does."""
        # Who compressed the body that is not there (Flask-Compress) said so: what the hub writes is
        # neither encoded nor of that length.
        for name in ("Content-Encoding", "Content-Length"):
            self.headers.pop(name, None)  # type: ignore[attr-defined]
        self._say(environ)
        # An answer that was made another one by `after_request` is an ordinary answer.
        refused = self.status_code != _HTTP_OK
        if refused or environ["REQUEST_METHOD"] == "HEAD":
            close_source(self.opening.source)
            return self._respond(environ, start_response)
        server = identify(environ, start_response)
        try:
            return self._open(server)
        except Refused as error:
            self._send_away(environ, error)
        except BodyLost as error:
            self._answer(error.status, str(error))
            server.leave_connection()
        except OSError as error:
            if error.errno not in _NO_DESCRIPTOR:
                raise
            text = f"no descriptor is left ({error.strerror}): raise ulimit -n"
            self._send_away(environ, Refused(Refusal.NO_DESCRIPTOR, text))
        return self._respond(environ, start_response)

    def _send_away(self, environ: Mapping[str, Any], refused: Refused) -> None:
        """Let the client come back, at a time of its own."""
        self._say(environ, sent_away=refused.detail)
        self.response = [self.opening.state.admission.refuse(refused.why, refused.detail)]

    def _answer(self, status: int, text: str) -> None:
        self.status_code = status
        self.headers["Content-Type"] = "text/plain; charset=utf-8"  # type: ignore[attr-defined]
        self.response = [text.encode()]

    def _open(self, server: Identified) -> Iterable[bytes]:
        """Open the stream, or raise before anything was changed."""
        source = self.opening.source
        pump = None if source is None else Pump(source, self.opening.to_event)
        try:
            if pump is not None:
                keep_environ(server.environ)
            slot = _slot(server.environ)
            if slot is not None:
                return self._leave(slot, pump, server)
            return self._hand_off_or_hold(pump, server)
        except BaseException:
            if pump is not None:
                pump.stop()
            raise

    def _leave(self, slot: Slot, pump: Pump | None, server: Identified) -> Iterable[bytes]:
        """Leave the stream to the ASGI side, which called us, and say the head, which it keeps."""
        take_in(server.environ)
        headers = self.get_wsgi_headers(server.environ)  # type: ignore[attr-defined]
        if pump is not None:
            with _refused_without_thread():
                pump.start()
        slot.state = self.opening.state
        slot.adoption = self._adoption(
            slot.connection,
            pump=pump,
            callbacks=getattr(self, "_on_close", []),
        )
        server.start_response(self.status, headers.to_wsgi_list())  # type: ignore[attr-defined]
        return ()

    def _hand_off_or_hold(self, pump: Pump | None, server: Identified) -> Iterable[bytes]:
        why = server.why_no_stream()
        if why is not None:
            raise Refused(Refusal.NO_THREAD, why)
        run = hub_thread()
        self._say(server.environ, uvloop=type(run.loop).__module__.startswith("uvloop"))
        client = self._client(server)
        if not isinstance(client, Client):
            take_in(server.environ)
            return self._hold(run, "each", client, pump, server)
        with _refused_without_thread():
            left = take_in(server.environ, client, run)
        if left is not None:
            return self._hold(run, "this", left, pump, server)
        return self._hand_off(run, client, pump, server)

    def _client(self, server: Identified) -> Client | str:
        """The connection to hand off, or why there is none."""
        if not self.opening.state.config.handoff:
            return "SSE_HANDOFF is off"
        if not can_run():
            return "uvloop is not installed, and Python's own loop can't run beside greenlets"
        found = server.client()
        return found if isinstance(found, Client) else found.why

    def _hand_off(
        self, run: HubThread, client: Client, pump: Pump | None, server: Identified
    ) -> Iterable[bytes]:
        self.opening.state.admission.leave_to_server(server.count_connections())
        headers = self.get_wsgi_headers(server.environ)  # type: ignore[attr-defined]
        if pump is not None:
            with _refused_without_thread():
                pump.start()
        connection, sink = swap(client)
        run.fds.add(connection.fileno())
        try:
            _set_options(connection)
            # Before the server writes: a head or a body of any size, which middleware may add to
            # ours, is then read by the hub, and never fills the pair.
            self._give(run, connection, sink=sink, pump=pump, chunks=server.may_chunk())
        except BaseException:
            run.fds.discard(connection.fileno())
            swap_back(client, connection)
            sink.close()
            raise
        server.start_response(self.status, headers.to_wsgi_list())  # type: ignore[attr-defined]
        server.leave_connection()
        return ()

    def _hold(
        self, run: HubThread, which: str, why: str, pump: Pump | None, server: Identified
    ) -> Iterable[bytes]:
        state = self.opening.state
        text = f"%s: {which} stream holds a worker thread, because %s"
        state.say_once(text, server.environ.get("SERVER_SOFTWARE") or "This server", why)
        threads = server.count_threads()
        lifetime_s = state.config.stream_lifetime_s or _HELD_LIFETIME_S
        most_s = _ONLY_THREAD_LIFETIME_S if threads == 1 else _HELD_LIFETIME_S
        lifetime_s = min(lifetime_s, most_s)
        self._say(server.environ, held=why, threads=threads, lifetime_s=lifetime_s)
        if not state.admission.hold_thread(threads):
            raise Refused(Refusal.NO_THREAD, "all threads that can be spared hold a stream")
        try:
            held = Held(state.admission)
        except BaseException:
            state.admission.free_thread()
            raise
        try:
            self._give(run, held.hub_end, sink=None, pump=pump, lifetime_s=lifetime_s)
        except BaseException:
            held.hub_end.close()
            held.close()
            raise
        held.pump = pump
        # eventlet would keep events back until there are 512 bytes of them.
        server.environ["eventlet.minimum_write_chunk_size"] = 0
        self.response = held  # type: ignore[assignment]  # Werkzeug's, which takes any iterable
        return self._respond(server.environ, server.start_response)

    def _give(
        self,
        run: HubThread,
        connection: _socket.socket,
        *,
        sink: _socket.socket | None,
        pump: Pump | None,
        lifetime_s: float | None = None,
        chunks: bool = False,
    ) -> None:
        # A held response is closed by its server, which runs its callbacks.
        adoption = self._adoption(
            connection,
            sink=sink,
            pump=pump,
            lifetime_s=lifetime_s,
            chunks=chunks,
            callbacks=getattr(self, "_on_close", []) if sink is not None else [],
        )
        try:
            run.give(self.opening.state, adoption)
        except BaseException:
            self.opening.state.callbacks.forget(adoption.request.reader)
            raise

    def _adoption(
        self,
        client: _socket.socket | ServerConnection,
        *,
        pump: Pump | None,
        lifetime_s: float | None = None,
        callbacks: list[Any],
        sink: _socket.socket | None = None,
        chunks: bool = False,
    ) -> Adoption:
        opening = self.opening
        request = opening.request
        # They run when the stream ends; nothing else of the response is kept.
        opening.state.callbacks.expect(request.reader, callbacks)
        return Adoption(
            client=client,
            request=request if lifetime_s is None else request.lasting(lifetime_s),
            head_pair=sink,
            may_chunk=chunks,
            feed=pump.hub_end if pump else None,
        )

    def _say(self, environ: Mapping[str, Any], **found: object) -> None:
        """Tell the doctor, in the head, what the stream meets here."""
        if self.opening.diagnosed:
            diagnose(self.headers, self.opening.state, environ, **found)  # type: ignore[attr-defined]

    def _respond(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        return super().__call__(environ, start_response)  # type: ignore[misc,no-any-return]


@contextmanager
def _refused_without_thread() -> Iterator[None]:
    """Where the system can't start a thread its reader comes back."""
    try:
        yield
    except Refused:
        raise
    except RuntimeError as error:
        raise Refused(Refusal.NO_THREAD, str(error)) from error


def _slot(environ: Mapping[str, Any]) -> Slot | None:
    # a2wsgi, and others after it, show the scope so.
    scope = environ.get("asgi.scope")
    slot = scope.get(SLOT) if isinstance(scope, Mapping) else None
    return slot if isinstance(slot, Slot) else None


def _set_options(connection: _socket.socket) -> None:
    if connection.family in (_socket.AF_INET, _socket.AF_INET6):
        with contextlib.suppress(OSError):  # the client may be gone already
            connection.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
            if hasattr(_socket, "TCP_USER_TIMEOUT"):  # Linux
                patience = _socket.TCP_USER_TIMEOUT
                connection.setsockopt(_socket.IPPROTO_TCP, patience, _USER_TIMEOUT_MS)
