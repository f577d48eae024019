"""gunicorn's settings for `make demo`: quiet, and one line that says where to look."""

from __future__ import annotations

from typing import Any

loglevel = "warning"
# gunicorn 25 and newer would leave a control socket in the home directory.
control_socket_disable = True
# A demo that is told to end ends.
graceful_timeout = 3


def when_ready(server: Any) -> None:
    """Say where the chat is, once the port is really open."""
    host, port = server.LISTENERS[0].sock.getsockname()[:2]
    print(f"\nOpen http://{host}:{port} in two browser windows. Ctrl-C ends it.\n", flush=True)


def on_exit(server: Any) -> None:
    """Leave the prompt on a line of its own, after the ^C."""
    del server
    print(flush=True)
