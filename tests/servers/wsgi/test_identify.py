"""What is known of each WSGI server, on real sockets."""

from __future__ import annotations

import functools
import socket
import ssl
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flask_eventstream.servers.wsgi import identify as room
from flask_eventstream.servers.wsgi.identify import identify
from flask_eventstream.servers.wsgi.known import Client, NoClient

ADVICE = (
    ": run it with gunicorn, uWSGI, waitress, cheroot or gevent, or set SSE_MAX_STREAMS to fewer"
    " streams than it has threads"
)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The client's end of a connection, and the server's."""
    client, server = socket.socketpair()
    client.settimeout(10)
    with client, server:
        yield client, server


def environ_of(sock: Any, **more: Any) -> dict[str, Any]:
    return {"SERVER_PROTOCOL": "HTTP/1.1", "gunicorn.socket": sock, **more}


def find_client(environ: dict[str, Any]) -> Client | NoClient:
    return identify(environ, print).client()


def count_threads(environ: dict[str, Any], start_response: Any) -> int | None:
    return identify(environ, start_response).count_threads()


def may_chunk(environ: dict[str, Any], start_response: Any) -> bool:
    return identify(environ, start_response).may_chunk()


# ---- finding


@pytest.mark.parametrize("key", ["gunicorn.socket", "gunicorn.sock", "werkzeug.socket"])
@pytest.mark.parametrize("protocol", ["HTTP/1.0", "HTTP/1.1"])
def test_known_servers_show_their_client(
    pair: tuple[socket.socket, socket.socket], key: str, protocol: str
) -> None:
    """A socket under a known key of an HTTP/1 request is the client's connection."""
    environ = {"SERVER_PROTOCOL": protocol, key: pair[1]}

    assert find_client(environ) == Client(pair[1].fileno())


def test_unknown_servers_show_nothing() -> None:
    """Where no socket is shown the answer names the server."""
    found = find_client({"SERVER_PROTOCOL": "HTTP/1.1", "SERVER_SOFTWARE": "waitress"})

    assert found == NoClient("waitress does not show its sockets to applications" + ADVICE)


@pytest.mark.parametrize(
    ("software", "key"),
    [("gunicorn/27.0.1", "gunicorn.socket"), ("Werkzeug/3.1.9", "werkzeug.socket")],
)
def test_middleware_that_hides_the_socket(software: str, key: str) -> None:
    """Where a server always shows its sockets, and here does not, middleware is named."""
    found = find_client({"SERVER_PROTOCOL": "HTTP/1.1", "SERVER_SOFTWARE": software})

    assert found == NoClient(f"middleware keeps back what {software} shows in environ as {key!r}")


def test_a_nameless_server_is_this_server() -> None:
    """A server that does not say its name is called this server."""
    found = find_client({"SERVER_PROTOCOL": "HTTP/1.1"})

    assert found == NoClient("this server does not show its sockets to applications" + ADVICE)


@pytest.mark.parametrize("protocol", ["HTTP/2.0", "HTTP/2", "HTTP/3", "", None])
def test_only_http_1_is_handed_off(
    pair: tuple[socket.socket, socket.socket], protocol: str | None
) -> None:
    """A connection that other requests share stays with the server."""
    found = find_client(environ_of(pair[1], SERVER_PROTOCOL=protocol))

    assert isinstance(found, NoClient)
    assert "shares one connection between requests" in found.why


def test_a_tls_socket_stays(pair: tuple[socket.socket, socket.socket]) -> None:
    """A connection that the server itself encrypts stays with the server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    with context.wrap_socket(pair[1], do_handshake_on_connect=False) as encrypted:
        found = find_client(environ_of(encrypted, SERVER_SOFTWARE="gunicorn"))

    assert found == NoClient("gunicorn ends TLS itself: let a proxy such as nginx do that")


def test_what_looks_like_tls_stays() -> None:
    """An object that has a peer certificate to show is no plain socket."""

    class OtherTls:
        def fileno(self) -> int:
            return 0

        def get_peer_certificate(self) -> None: ...

    assert isinstance(find_client(environ_of(OtherTls())), NoClient)


def test_a_closed_socket_is_no_client() -> None:
    """A connection that is closed already can't be taken."""
    with socket.socket() as sock:
        pass

    assert find_client(environ_of(sock)) == NoClient("the connection is closed")


def test_other_systems_have_no_descriptors(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside POSIX no connection is taken."""
    monkeypatch.setattr(room.os, "name", "nt")

    found = find_client(environ_of(pair[1]))

    monkeypatch.undo()
    assert found == NoClient("sockets are no descriptors on this system")


# ---- servers, each as far as we look into it


class Has:
    """An object with these attributes, and a method that a server hands out."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def start_response(self) -> None: ...


def waitress_of(**attributes: Any) -> dict[str, Any]:
    ahead = Has(channel_request_lookahead=attributes.pop("ahead", 0))
    channel = Has(adj=ahead, total_outbufs_len=attributes.pop("pending", 0), **attributes)
    return {"SERVER_PROTOCOL": "HTTP/1.1", "waitress.client_disconnected": channel.start_response}


def input_of(module: str, file: Any) -> dict[str, Any]:
    """A request that a server reads from a file of one of its own classes."""
    kind = type("Input", (), {"__module__": module})
    given = kind()
    given.rfile = file
    return {"SERVER_PROTOCOL": "HTTP/1.1", "wsgi.input": given}


def uwsgi_of(monkeypatch: pytest.MonkeyPatch, **attributes: Any) -> dict[str, Any]:
    monkeypatch.setitem(sys.modules, "uwsgi", Has(**attributes))  # type: ignore[misc]
    return {"SERVER_PROTOCOL": "HTTP/1.1", "uwsgi.version": b"2"}


def test_waitress_shows_its_client(pair: tuple[socket.socket, socket.socket]) -> None:
    """The connection is behind the method by which waitress tells of a disconnect."""
    assert find_client(waitress_of(socket=pair[1])) == Client(pair[1].fileno())


def test_waitress_must_not_read_ahead(pair: tuple[socket.socket, socket.socket]) -> None:
    """A waitress that looks at a connection while it answers keeps it."""
    found = find_client(waitress_of(socket=pair[1], ahead=1))

    assert isinstance(found, NoClient)
    assert "channel_request_lookahead" in found.why


def test_waitress_must_have_written_all(pair: tuple[socket.socket, socket.socket]) -> None:
    """While waitress still writes an earlier answer, it keeps the connection."""
    found = find_client(waitress_of(socket=pair[1], pending=100_000))

    assert isinstance(found, NoClient)
    assert "earlier answer" in found.why


def test_a_process_for_each_request_keeps_its_client(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    """A Werkzeug that forks for each request keeps its connections: the hub would end with it."""
    environ = {"SERVER_PROTOCOL": "HTTP/1.1", "werkzeug.socket": pair[1]}
    found = find_client({**environ, "wsgi.multiprocess": True})

    assert isinstance(found, NoClient)
    assert "`processes`" in found.why


def test_granian_has_a_remedy_of_its_own() -> None:
    """What helps on one server is not advised to another."""
    found = find_client({"SERVER_PROTOCOL": "HTTP/1.1", "SERVER_SOFTWARE": "Granian"})

    assert isinstance(found, NoClient)
    assert "--interface asgi" in found.why
    assert "gunicorn" not in found.why


def bridge_of(package: str) -> Any:
    """A `start_response` of an object that a package made."""
    return type("Responder", (Has,), {"__module__": f"{package}.wsgi"})().start_response


@pytest.mark.parametrize("package", ["a2wsgi", "asgiref", "starlette", "uvicorn"])
def test_bridges_from_asgi_hold_no_stream(package: str) -> None:
    """Where nobody would say that a reader left, no thread is held, and the remedy is named."""
    for start_response in (bridge_of(package), behind_function(bridge_of(package))):
        why = identify({}, start_response).why_no_stream()

        assert why is not None
        assert why.startswith(package)
        assert "EventStreamASGI(app)" in why


@pytest.mark.parametrize("start_response", [print, functools.partial(print)])
def test_an_unknown_bridge_holds_no_stream(start_response: Callable[..., Any]) -> None:
    """A bridge that shows ASGI's scope is one, whatever its name."""
    assert "EventStreamASGI(app)" in (
        identify({"asgi.scope": {}}, start_response).why_no_stream() or ""
    )
    assert identify({}, start_response).why_no_stream() is None


@pytest.mark.parametrize("module", ["gevent.pywsgi", "cheroot.server"])
@pytest.mark.parametrize("wrapped", [0, 1, 2])
def test_the_client_is_behind_the_input(
    pair: tuple[socket.socket, socket.socket], module: str, wrapped: int
) -> None:
    """The connection is what the request's body is read from, behind a few wrappers."""
    with pair[1].makefile("rb") as file:
        inner: Any = file
        for _ in range(wrapped):
            inner = Has(rfile=inner)

        assert find_client(input_of(module, inner)) == Client(pair[1].fileno())


def test_an_input_without_an_end_is_left() -> None:
    """Wrappers around wrappers are not followed for ever."""
    endless = Has()
    endless.rfile = endless  # type: ignore[attr-defined]

    assert isinstance(find_client(input_of("cheroot.server", endless)), NoClient)


def test_inputs_of_others_are_left(pair: tuple[socket.socket, socket.socket]) -> None:
    """The same attributes in another server's input mean nothing."""
    with pair[1].makefile("rb") as file:
        assert isinstance(find_client(input_of("somebody.else", file)), NoClient)


def test_uwsgi_tells_the_descriptor(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The descriptor that uWSGI gives is the connection's."""
    environ = uwsgi_of(monkeypatch, connection_fd=pair[1].fileno, loop=None, opt={})

    assert find_client(environ) == Client(pair[1].fileno())


@pytest.mark.parametrize(("loop", "opt"), [(b"gevent", {}), (None, {"async": b"10"})])
def test_loops_of_uwsgi_are_left(
    pair: tuple[socket.socket, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
    loop: bytes | None,
    opt: dict[str, bytes],
) -> None:
    """A connection that a loop of uWSGI's watches stays with it."""
    environ = uwsgi_of(monkeypatch, connection_fd=pair[1].fileno, loop=loop, opt=opt)
    found = find_client(environ)

    assert isinstance(found, NoClient)
    assert "--threads" in found.why


@pytest.mark.parametrize(
    "environ",
    [
        {"waitress.client_disconnected": print},
        {"waitress.client_disconnected": None},
        {"werkzeug.socket": "no socket"},
        {"gunicorn.socket": 12.5},
        input_of("cheroot.server", None),
    ],
)
def test_what_is_not_understood_is_left(environ: dict[str, Any]) -> None:
    """A server that keeps its sockets in another way than known keeps them."""
    found = find_client({"SERVER_PROTOCOL": "HTTP/1.1", **environ})

    assert isinstance(found, NoClient)


def test_only_sockets_are_taken(tmp_path: Path) -> None:
    """A descriptor of something else than a socket stays where it is."""
    with (tmp_path / "file").open("wb") as file:
        found = find_client(environ_of(file))

    assert isinstance(found, NoClient)
    assert "something else than a socket" in found.why


def test_streams_need_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under uWSGI without threads no stream can be opened, and the reason names the option."""
    why = identify(uwsgi_of(monkeypatch, has_threads=0), print).why_no_stream()

    assert why is not None
    assert "--enable-threads" in why


def test_elsewhere_streams_can_be_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under uWSGI with threads, and under any other server, nothing speaks against streams."""
    assert identify(uwsgi_of(monkeypatch, has_threads=1), print).why_no_stream() is None
    assert identify({}, print).why_no_stream() is None


# ---- threads


def test_threads_are_counted(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each server that knows how many threads it has is asked where it knows."""
    gunicorn = Has(cfg=Has(threads=4, worker_connections=1000)).start_response
    cheroot = Has(req=Has(server=Has(requests=Has(min=10)))).start_response
    dispatcher = Has(task_dispatcher=Has(threads=range(6)))
    green = type("socket", (), {"__module__": "gevent._socket3"})()
    monkeypatch.setitem(sys.modules, "mod_wsgi", Has(threads_per_process=15))  # type: ignore[misc]

    assert count_threads(environ_of(pair[1]), gunicorn) == 4
    assert count_threads(environ_of(green), gunicorn) == 1000
    assert count_threads(input_of("cheroot.server", None), cheroot) == 10
    assert count_threads(waitress_of(server=dispatcher), print) == 6
    assert count_threads(uwsgi_of(monkeypatch, cores=3), print) == 3
    assert count_threads({"mod_wsgi.version": (4, 9)}, print) == 15


@pytest.mark.parametrize(
    "environ",
    [{"werkzeug.socket": None, "wsgi.multithread": True}, input_of("gevent.pywsgi", None)],
)
def test_some_threads_are_not_scarce(environ: dict[str, Any]) -> None:
    """A server with a thread or greenlet for each request has as many as it needs."""
    assert (count_threads(environ, print) or 0) >= 2000


@pytest.mark.parametrize(
    ("environ", "threads"),
    [
        ({"wsgi.multithread": True}, None),
        ({"wsgi.multithread": False}, 1),
        ({}, 1),
        ({"wsgi.multithread": True, "gunicorn.socket": object()}, None),
        ({"wsgi.multithread": True, "waitress.client_disconnected": print}, None),
        ({"wsgi.multithread": False, "werkzeug.socket": None}, 1),
    ],
)
def test_threads_that_nobody_counts(environ: dict[str, Any], threads: int | None) -> None:
    """Where a server tells no number it has one thread, or several that nobody can count."""
    assert count_threads(environ, print) == threads


# ---- leaving the connection


class Server:
    """What a server's `start_response` belongs to, with what it can be told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.close_connection = False
        self.req = self

    def force_close(self) -> None:
        self.told.append("close")

    def start_response(self, *_: Any) -> None: ...


def test_gunicorn_is_told_to_leave_the_connection() -> None:
    """The response of gunicorn is told to close its connection."""
    server = Server()
    identify({"gunicorn.socket": 1}, server.start_response).leave_connection()

    assert server.told == ["close"]


@pytest.mark.parametrize("module", ["gevent.pywsgi", "cheroot.server"])
def test_others_are_told_to_leave_the_connection(module: str) -> None:
    """The handler of gevent and the request of cheroot close their connection afterwards."""
    server = Server()
    identify(input_of(module, None), server.start_response).leave_connection()

    assert server.close_connection


def behind_function(start_response: Any) -> Any:
    def start(*given: Any) -> Any:
        return start_response(*given)

    return start


def behind_partial(start_response: Any) -> Any:
    return functools.partial(lambda inner, *given: inner(*given), start_response)


@pytest.mark.parametrize("wrap", [behind_function, behind_partial])
def test_the_server_is_found_behind_middleware(wrap: Callable[[Any], Any]) -> None:
    """A function or partial that middleware puts before `start_response` hides no server."""
    server = Server()
    identify({"gunicorn.socket": 1}, wrap(wrap(server.start_response))).leave_connection()

    assert server.told == ["close"]


@pytest.mark.parametrize("start_response", [print, lambda: None, [].append])
@pytest.mark.parametrize("environ", [{}, {"gunicorn.socket": 1}, {"werkzeug.socket": 1}])
def test_other_servers_are_told_nothing(
    environ: dict[str, Any], start_response: Callable[..., Any]
) -> None:
    """A `start_response` that belongs to nothing known is left alone."""
    identify(environ, start_response).leave_connection()


# ---- chunks


@pytest.mark.parametrize(
    ("version", "protocol", "may"),
    [
        ("HTTP/1.1", "http", True),
        ("HTTP/1.0", "http", False),
        (None, "http", False),
        ("HTTP/1.1", "uwsgi", False),
    ],
)
def test_gunicorn_may_chunk(version: str | None, protocol: str, *, may: bool) -> None:
    """Chunks are for HTTP/1.1 requests to a gunicorn that speaks HTTP, also behind middleware."""
    start_response = Has(cfg=Has(protocol=protocol)).start_response
    environ = {"SERVER_PROTOCOL": version, "gunicorn.socket": 1}

    assert may_chunk(environ, start_response) is may
    assert may_chunk(environ, behind_function(start_response)) is may


@pytest.mark.parametrize("owner", [Has(cfg=Has()), Has(close_connection=False)])
def test_gunicorn_may_speak_http_alone(owner: Has) -> None:
    """A gunicorn without a choice of protocols, and its worker with gevent's server, may chunk."""
    environ = {"SERVER_PROTOCOL": "HTTP/1.1", "gunicorn.socket": 1}

    assert may_chunk(environ, owner.start_response)


@pytest.mark.parametrize("start_response", [print, lambda: None])
def test_a_hidden_gunicorn_may_not_chunk(start_response: Callable[..., Any]) -> None:
    """Where middleware hides which protocol gunicorn speaks, no chunks are made."""
    assert not may_chunk({"SERVER_PROTOCOL": "HTTP/1.1", "gunicorn.socket": 1}, start_response)


@pytest.mark.parametrize(
    ("options", "may"),
    [
        ({"http-socket"}, True),
        ({"http11-socket"}, True),
        ({"http", "http-keepalive"}, True),
        ({"socket"}, False),
        ({"http", "uwsgi-socket"}, False),
        ({"zerg"}, False),
        (set(), False),
    ],
)
def test_uwsgi_may_chunk(monkeypatch: pytest.MonkeyPatch, options: set[str], *, may: bool) -> None:
    """Under uWSGI chunks are made where all its sockets speak HTTP: uwsgi_pass takes none."""
    environ = uwsgi_of(monkeypatch, opt=dict.fromkeys(options, b""))

    assert may_chunk(environ, print) is may


def test_nobody_else_may_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is not known, or shows its options no more, gets no chunks."""
    assert not may_chunk({"SERVER_PROTOCOL": "HTTP/1.1"}, print)
    assert not may_chunk(uwsgi_of(monkeypatch), print)
