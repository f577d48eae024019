"""Serve an application with waitress on two threads: MODULE:APP PORT [LOOKAHEAD]."""

from __future__ import annotations

import sys

import waitress
from loading import load, say_where

if __name__ == "__main__":
    app, port, *more = sys.argv[1:]
    server = waitress.create_server(
        load(app),
        listen=f"127.0.0.1:{port}",
        threads=2,
        channel_request_lookahead=int(more[0]) if more else 0,
    )
    say_where(server.effective_port)
    server.run()
