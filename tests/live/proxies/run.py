"""The proxies that Debian has, started with the files of the docs, ports and paths put in."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.ports import accepts
from harness.programs import program
from harness.waiting import wait_until
from live.servers.deployed import SNIPPETS

__all__ = ["PROXIES", "run_proxy"]

APACHE = """\
ServerRoot {folder}
PidFile {folder}/apache.pid
ServerName localhost
Listen 127.0.0.1:{port}
ErrorLog /dev/stderr
{modules}
{site}
"""
APACHE_MODULES = ("mpm_event", "authz_core", "proxy", "proxy_http", "alias", "asis")


def _haproxy(text: str, folder: Path) -> list[str]:
    settings = folder / "haproxy.cfg"
    settings.write_text(text.replace("/etc/haproxy", str(SNIPPETS)), "utf-8")
    return [program("haproxy"), "-db", "-f", str(settings)]


def _lighttpd(text: str, folder: Path) -> list[str]:
    settings = folder / "lighttpd.conf"
    text = text.replace("/var/www/html", str(folder))
    settings.write_text(f'{text}\nserver.bind = "127.0.0.1"\n', "utf-8")
    return [program("lighttpd"), "-D", "-f", str(settings)]


def _varnish(text: str, folder: Path) -> list[str]:
    settings = folder / "shop.vcl"
    settings.write_text(text, "utf-8")
    return [
        *(program("varnishd"), "-F", "-n", str(folder / "varnish"), "-f", str(settings)),
        *("-a", "127.0.0.1:8080", "-j", "none", "-s", "malloc,16m"),
    ]


def _apache(text: str, folder: Path) -> list[str]:
    modules = "\n".join(
        f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so"
        for name in APACHE_MODULES
    )
    text = text.replace("/etc/apache2", str(SNIPPETS))
    port = text.partition("127.0.0.1:")[2].partition(">")[0]
    settings = folder / "apache.conf"
    whole = APACHE.format(folder=folder, port=port, modules=modules, site=text)
    settings.write_text(whole, "utf-8")
    return [program("apache2"), "-D", "FOREGROUND", "-f", str(settings)]


#: name → (file of the docs, what runs it).
PROXIES: dict[str, tuple[str, Callable[[str, Path], list[str]]]] = {
    "HAProxy": ("haproxy.cfg", _haproxy),
    "Apache": ("apache.conf", _apache),
    "Varnish": ("varnish.vcl", _varnish),
    "lighttpd": ("lighttpd.conf", _lighttpd),
}


@contextmanager
def run_proxy(name: str, *, port: int, behind: int, folder: Path) -> Iterator[None]:
    """Run a proxy at a port of this machine, for the length of a `with` block."""
    file, command_for = PROXIES[name]
    text = (SNIPPETS / file).read_text("utf-8").replace("8000", str(behind))
    command = command_for(text.replace("8080", str(port)), folder)
    command = [word.replace("8080", str(port)) for word in command]
    log = folder / "proxy.log"
    with log.open("wb") as file_of_log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=file_of_log,
            stderr=subprocess.STDOUT,
        )
    try:
        wait_until(
            lambda: accepts(port) or process.poll() is not None, within_s=30, what=f"{name} to run"
        )
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        print(f"--- log of {name}\n{log.read_text()}")
