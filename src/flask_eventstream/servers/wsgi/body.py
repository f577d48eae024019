"""The body of a request, taken in before the connection that it comes on leaves the server.

After that nobody could read it: an iterable that asks for `request.get_json()` late would find
nothing, and the hub would get what nobody read, and take it for a client that talks too much. So
it is read as the server decodes it, and put back where the request looks for it.
"""

from __future__ import annotations

import _socket
import contextlib
import io
import os
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from flask_eventstream.hub.thread import HubThread
from flask_eventstream.servers.wsgi.known import Client

__all__ = ["BodyLost", "keep_environ", "take_in"]

#: More than this is left where it is, and a thread of the server's with it: an upload is no
#: question to a stream, and a disk is not endless.
_MOST_BYTES = 16 * 1024 * 1024
#: What servers and Werkzeug keep of a form in memory (`max_form_memory_size`).
_IN_MEMORY_BYTES = 512 * 1024
_READ_BYTES = 64 * 1024

#: Seconds for all of it. gunicorn kills a sync worker that answers nothing for 30.
_MOST_S = 10.0

_TOO_LARGE = 413


class BodyLost(Exception):
    """The body did not come, or not whole; ``status`` is what its client is told."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def keep_environ(environ: dict[str, Any]) -> None:
    """Let the request of an iterable that outlives it keep what the server told about it.

    uWSGI empties the dictionary when the response is over, and uses it for its next request.
    """
    request: Any = environ.get("werkzeug.request")
    if request is not None:
        request.environ = environ.copy()


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


def take_in(
    environ: dict[str, Any], client: Client | None = None, run: HubThread | None = None
) -> str | None:
    """Read what is left of the request's body, and put it back. Blocks for ten seconds at most.

    Args:
        environ: The request's; changed.
        client: The connection that the body comes on, where it is known. Without one the server's
            own patience is the bound, as for every view that reads a body.
        run: The hub's thread, which keeps the time.

    Returns:
        Why the body, or some of it, is still where it was; ``None`` where nothing is.

    Raises:
        BodyLost: It was announced and did not come. Nobody can read the connection any more.
        RuntimeError: The process is going down. Nothing was changed.
    """
    request: Any = environ.get("werkzeug.request")
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if "HTTP_TRANSFER_ENCODING" in environ:
        if getattr(environ["wsgi.input"], "chunked_input", False):
            # eventlet decodes them and does not say so.
            environ["wsgi.input_terminated"] = request.environ["wsgi.input_terminated"] = True
        if not environ.get("wsgi.input_terminated"):
            return "its request has a body in chunks, which this server does not decode"
    elif not length:
        return None
    if length > _MOST_BYTES:
        return _too_large()
    try:
        # Bounded by what was announced, and perhaps read partly.
        stream: _Readable = request.stream
    except Exception as error:  # noqa: BLE001  raised again, but for one
        return _unless_too_large(error)
    with _time_bound(client, run) as is_late:
        spool, why = _read(stream, is_late)
    weakref.finalize(request, spool.close)
    _put_back(spool if why is None else io.BufferedReader(_Both(spool, stream)), environ, request)
    return why


def _put_back(body: Any, environ: dict[str, Any], request: Any) -> None:
    """Let whoever reads the request's body read this one."""
    for each in (environ, request.environ):
        each["wsgi.input"] = body
    request.__dict__["stream"] = body


def _too_large() -> str:
    return f"the body of its request is larger than {_MOST_BYTES >> 20} MiB"


def _unless_too_large(error: Exception) -> str:
    """Werkzeug's word for `MAX_CONTENT_LENGTH`: whoever reads the body shall get it."""
    if getattr(error, "code", None) != _TOO_LARGE:
        raise error
    return "the body of its request is larger than MAX_CONTENT_LENGTH"


def _read(stream: _Readable, late: _Late) -> tuple[Any, str | None]:
    spool = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115  it is returned
    try:
        why = _copy(stream, spool, late)
        if late:
            raise TimeoutError
    except Exception as error:
        spool.close()
        status, what = (408, "came too slowly") if late else (400, "did not come whole")
        raise BodyLost(status, f"The body of the request {what}.\n") from error
    spool.seek(0)
    return spool, why


def _copy(stream: _Readable, spool: Any, late: _Late) -> str | None:
    while not late:
        try:
            piece = stream.read(_READ_BYTES)
        except Exception as error:  # noqa: BLE001  raised again, but for one
            return _unless_too_large(error)
        if not piece:
            break
        spool.write(piece)
        if spool.tell() > _MOST_BYTES:
            return _too_large()
    return None


class _Late:
    """True when the time is over, and the connection gives its readers the end."""

    def __init__(self, fd: int | None = None) -> None:
        self._fd = fd
        self._passed = False
        self._timer: Any = None

    def __bool__(self) -> bool:
        return self._passed

    # ---- on the hub's loop, which no request keeps waiting

    def start(self, run: HubThread) -> None:
        self._timer = run.loop.call_later(_MOST_S, self._pass)

    def stop(self) -> None:
        self._timer.cancel()
        if self._fd is not None:
            _socket.close(self._fd)

    def _pass(self) -> None:
        self._passed = True
        fd = self._fd
        if fd is not None:
            blocking = os.get_blocking(fd)
            connection = _socket.socket(fileno=fd)
            # Whoever waits in a recv() on it, thread or greenlet, gets the end of file.
            with contextlib.suppress(OSError):
                connection.shutdown(_socket.SHUT_RD)
            connection.detach()
            os.set_blocking(fd, blocking)  # a default timeout of sockets changed it


@contextmanager
def _time_bound(client: Client | None, run: HubThread | None) -> Iterator[_Late]:
    if client is None or run is None:
        yield _Late()
        return
    late = _Late(os.dup(client.fd))
    run.call(late.start, run)
    try:
        yield late
    finally:
        with contextlib.suppress(RuntimeError):
            run.call(late.stop)


class _Both(io.RawIOBase):
    """What was taken in, and then the rest, which still comes."""

    def __init__(self, *parts: _Readable) -> None:
        self._parts = parts

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        for part in self._parts:
            piece = part.read(len(buffer))
            if piece:
                buffer[: len(piece)] = piece
                return len(piece)
        return 0
