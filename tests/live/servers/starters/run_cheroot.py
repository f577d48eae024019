"""Serve an application with cheroot on two threads: run_cheroot.py MODULE:APP PORT."""

from __future__ import annotations

import sys

from cheroot.wsgi import Server
from loading import load, say_where

if __name__ == "__main__":
    app, port = sys.argv[1:]
    # By default it lets five connections wait, and the kernel makes others wait for seconds.
    server = Server(
        ("127.0.0.1", int(port)), load(app), numthreads=2, max=2, request_queue_size=128
    )
    server.prepare()
    say_where(server.bind_addr[1])
    server.serve()
