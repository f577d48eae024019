"""Pages live through a restart of the application, with the files that the docs show."""

from __future__ import annotations

from pathlib import Path

from harness.nginx import run_nginx
from harness.ports import accepts, free_port
from live.servers.deployed import SNIPPETS, activated, running, shop_units
from live.servers.pages import assert_pages_survive, be_away


def test_pages_survive_behind_nginx(folder: Path) -> None:
    """With the app away for four seconds behind the nginx of the docs, no page gives up."""
    port, behind = free_port(), free_port()
    server = (SNIPPETS / "nginx.conf").read_text(encoding="utf-8")
    server = server.replace(":8080", f":{port}").replace(":8000", f":{behind}")
    command = ["gunicorn", "--workers", "2", "--bind", f"127.0.0.1:{behind}", "hello:app"]
    with run_nginx(server, folder=folder, port=port):
        assert_pages_survive(
            f"http://127.0.0.1:{port}/stream",
            lambda: running(command, folder, lambda: accepts(behind)),
            folder,
            away=be_away,
        )


def test_pages_wait_at_the_units_socket(folder: Path) -> None:
    """With the socket unit of the docs a restart is a wait: nobody is even refused."""
    command, socket_of_shop = shop_units(folder)
    port = free_port()
    passed_on = f"proxy_pass http://unix:{folder}/shop.sock;"
    server = f"server {{ listen 127.0.0.1:{port}; location / {{ {passed_on} }} }}"
    with socket_of_shop as listening, run_nginx(server, folder=folder, port=port):
        assert_pages_survive(
            f"http://127.0.0.1:{port}/stream",
            lambda: activated(command, folder, listening),
            folder,
            away=lambda: None,
        )
