"""nginx in front of servers under test, in the foreground, with a configuration of the test's."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .ports import accepts
from .programs import program
from .waiting import wait_until

__all__ = ["run_nginx"]

READY_WITHIN_S = 10.0
STOP_WITHIN_S = 10.0

# As root, nginx would give its workers to a user who may not open the upstream's socket.
USER = "user root;" if os.getuid() == 0 else ""

SETTINGS = """\
daemon off;
{user}
pid {folder}/nginx.pid;
error_log stderr;
worker_processes 1;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    uwsgi_temp_path {folder}/uwsgi;
    fastcgi_temp_path {folder}/fastcgi;
    scgi_temp_path {folder}/scgi;
{servers}
}}
"""


@contextmanager
def run_nginx(servers: str, *, folder: Path, port: int) -> Iterator[None]:
    """Run nginx for the length of a `with` block.

    Args:
        servers: what stands in the configuration's `http` block.
        folder: for its files; the test's own.
        port: one that it listens on, to see when it is ready.

    Raises:
        AssertionError: it did not get ready; the text has its log.
    """
    settings = folder / "nginx.conf"
    settings.write_text(SETTINGS.format(user=USER, folder=folder, servers=servers), "utf-8")
    command = [program("nginx"), "-p", str(folder), "-e", "stderr", "-c", str(settings)]
    with (folder / "nginx.log").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )
    try:

        def ready() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"nginx ended:\n{(folder / 'nginx.log').read_text()}")
            return accepts(port)

        wait_until(ready, within_s=READY_WITHIN_S, what="nginx")
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        print(f"--- log of nginx\n{(folder / 'nginx.log').read_text()}")
