"""Requests' bodies, taken in before their connection leaves; real connections are in tests/live."""

from __future__ import annotations

import io
from typing import Any

import pytest
from flask import Request
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.test import create_environ

from flask_eventstream.servers.wsgi import body
from flask_eventstream.servers.wsgi.body import BodyLost, keep_environ, take_in

CONTENT = b"0123456789" * 20_000


def request_with(content: bytes, **environ: Any) -> Request:
    """A request whose body still lies with the server."""
    made = create_environ("/", method="POST", input_stream=io.BytesIO(content))
    return Request({**made, "CONTENT_LENGTH": str(len(content)), **environ})


def chunked(content: bytes, **environ: Any) -> Request:
    """A request with a body in chunks, which its server decodes."""
    more = {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"}
    return request_with(content, **more, **{"wsgi.input_terminated": True, **environ})


@pytest.mark.parametrize("made", [request_with, chunked])
def test_a_body_is_put_back(made: Any) -> None:
    """A body that was taken in can be read whole, and the server's own input holds none of it."""
    request = made(CONTENT)
    servers = request.environ["wsgi.input"]

    assert take_in(request.environ) is None
    assert servers.read() == b""
    assert request.get_data() == CONTENT


def test_what_was_read_before_stays_read() -> None:
    """Of a body that a view has read in part the rest is put back."""
    request = request_with(CONTENT)
    request.stream.read(10)
    take_in(request.environ)

    assert request.stream.read() == CONTENT[10:]


def test_a_form_that_was_parsed_stays_parsed() -> None:
    """A body that a view has read as a form is read no second time."""
    form = "application/x-www-form-urlencoded"
    request = request_with(b"name=ada", CONTENT_TYPE=form)
    assert request.form["name"] == "ada"
    take_in(request.environ)

    assert request.form["name"] == "ada"
    assert request.get_data() == b""


def test_without_a_body_nothing_is_touched() -> None:
    """A request that announces no body keeps the server's input."""
    request = request_with(b"")
    servers = request.environ["wsgi.input"]

    assert take_in(request.environ) is None
    assert request.environ["wsgi.input"] is servers


@pytest.mark.parametrize("made", [request_with, chunked])
def test_a_large_body_stays_with_the_server(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body above the bound can be read to its end all the same, and the reason is given."""
    monkeypatch.setattr(body, "_MOST_BYTES", 100_000)
    request = made(CONTENT)
    why = take_in(request.environ)

    assert why is not None
    assert "larger than" in why
    assert request.get_data() == CONTENT


@pytest.mark.parametrize("made", [request_with, chunked])
def test_a_body_that_the_application_does_not_want(
    made: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body above MAX_CONTENT_LENGTH is refused to who reads it, as everywhere in Flask."""
    request = made(CONTENT)
    # Before Flask 3.1 it is what the application says, and can't be set.
    monkeypatch.setattr(type(request), "max_content_length", 1000)
    why = take_in(request.environ)

    assert why is not None
    assert "MAX_CONTENT_LENGTH" in why
    with pytest.raises(RequestEntityTooLarge):
        request.get_data()


def test_chunks_that_nobody_decodes() -> None:
    """Chunks stay where they are on a server that leaves them to the application."""
    request = chunked(CONTENT)
    del request.environ["wsgi.input_terminated"]

    assert "does not decode" in (take_in(request.environ) or "")


def test_half_a_body_is_none() -> None:
    """A body that ends too early is lost, and its client is told 400."""
    request = request_with(CONTENT, CONTENT_LENGTH=str(len(CONTENT) + 1))

    with pytest.raises(BodyLost) as raised:
        take_in(request.environ)

    assert raised.value.status == 400


def test_an_environ_that_the_server_empties() -> None:
    """A request that outlives its response keeps what a server empties, which uses it again."""
    request = request_with(b"", QUERY_STRING="name=ada")
    environ = request.environ
    keep_environ(environ)
    take_in(environ)
    environ.clear()
    environ["QUERY_STRING"] = "name=eve"

    assert request.environ["QUERY_STRING"] == "name=ada"
    assert request.get_data() == b""
