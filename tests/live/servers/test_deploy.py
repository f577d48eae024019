"""The files and commands of the pages on deployment, run with other paths and ports put in."""

from __future__ import annotations

import json
import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from harness.certificate import make_certificate
from harness.curl import Curl
from harness.nginx import run_nginx
from harness.ports import accepts, free_port
from harness.streams import Reader, post
from harness.waiting import wait_until
from live.servers.deployed import DOCS, SNIPPETS, activated, running, shop_units

BLOCK = re.compile(r"<!-- docs/snippets/(\S+) -->\n```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHOWN = [
    block
    for page in sorted((DOCS / "how-to").glob("deploy-*.md"))
    for block in BLOCK.findall(page.read_text(encoding="utf-8"))
]


def assert_streams(port: int) -> None:
    url = f"http://127.0.0.1:{port}"
    # gunicorn takes connections before it has the application.
    with Reader(f"{url}/stream", timeout_s=30) as reader:
        wait_until(lambda: reader.comments, what="the first byte")
        post(f"{url}/hello")

        assert reader.next_event()["data"] == '{"message": "Hello!"}'


@pytest.mark.parametrize(("file", "block"), SHOWN, ids=[file for file, _ in SHOWN])
def test_pages_show_the_files(file: str, block: str) -> None:
    """A file that a page on deployment shows is one of those that are run here, word for word."""
    assert block == (SNIPPETS / file).read_text(encoding="utf-8")


def test_the_procfile(folder: Path) -> None:
    """The command of the Procfile serves streams on the port that the platform sets."""
    port = free_port()
    command = (SNIPPETS / "Procfile").read_text(encoding="utf-8").partition("web: ")[2]
    shell = ["sh", "-c", f"PORT={port}; exec {command}"]
    with running(shell, folder, lambda: accepts(port)):
        assert_streams(port)


def test_the_containers_command(folder: Path) -> None:
    """The command of the Dockerfile serves streams."""
    port = free_port()
    lines = (SNIPPETS / "Dockerfile").read_text(encoding="utf-8").splitlines()
    command = json.loads(lines[-1].removeprefix("CMD "))
    command = [word.replace("8000", str(port)) for word in command]
    with running(command, folder, lambda: accepts(port)):
        assert_streams(port)


def test_the_command_for_waitress(folder: Path) -> None:
    """The command of the page on waitress serves streams."""
    port = free_port()
    page = (DOCS / "how-to" / "deploy-waitress.md").read_text(encoding="utf-8")
    (line,) = [line for line in page.splitlines() if line.startswith("waitress-serve ")]
    with running(line.replace("8000", str(port)).split(), folder, lambda: accepts(port)):
        # It has no handler for SIGTERM; that this ends it is all that is asked.
        assert_streams(port)


def test_the_units_behind_nginx(folder: Path) -> None:
    """The units' command, at the socket, and their server block serve streams over HTTP/2."""
    command, socket_of_shop = shop_units(folder)
    with socket_of_shop as listening, activated(command, folder, listening):
        assert_streams_behind_nginx(None, SNIPPETS / "nginx-unix.conf", folder)


def test_uwsgi_behind_nginx(folder: Path) -> None:
    """The settings for uWSGI and the server block that go together serve streams over HTTP/2."""
    settings = (SNIPPETS / "uwsgi.ini").read_text(encoding="utf-8")
    (folder / "uwsgi.ini").write_text(settings.replace("/run/shop", str(folder)), "utf-8")
    command = ["pyuwsgi", "--ini", "uwsgi.ini", "--pythonpath", "."]

    assert_streams_behind_nginx(command, SNIPPETS / "nginx-uwsgi.conf", folder)


def assert_streams_behind_nginx(command: list[str] | None, block: Path, folder: Path) -> None:
    pem, port = make_certificate(folder), free_port()
    server = block.read_text(encoding="utf-8")
    for shown, real in (
        ("/etc/ssl/shop.pem", pem.certificate),
        ("/etc/ssl/shop.key", pem.key),
        ("/run/shop", folder),
        ("listen 443", f"listen 127.0.0.1:{port}"),
    ):
        assert shown in server
        server = server.replace(shown, str(real))
    url = f"https://127.0.0.1:{port}"
    with ExitStack() as stack:
        if command is not None:
            stack.enter_context(running(command, folder, (folder / "shop.sock").exists))
        stack.enter_context(run_nginx(server, folder=folder, port=port))
        stream = stack.enter_context(Curl(f"{url}/stream", certificate=pem.certificate))
        stream.wait_for("\n:\n", within_s=30)
        with Curl(f"{url}/hello", "-X", "POST", certificate=pem.certificate) as curl:
            curl.wait_end()
        stream.wait_for('data: {"message": "Hello!"}')

        assert stream.received.startswith("HTTP/2 200")
