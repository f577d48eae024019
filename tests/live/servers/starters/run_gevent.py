"""Serve an application with gevent's server, patched: run_gevent.py MODULE:APP PORT."""

# ruff: noqa: E402  the patch comes before everything else
from __future__ import annotations

from gevent import monkey

monkey.patch_all()

import sys

from gevent.pywsgi import WSGIServer
from loading import load, say_where

if __name__ == "__main__":
    app, port = sys.argv[1:]
    server = WSGIServer(("127.0.0.1", int(port)), load(app))
    server.start()
    say_where(server.server_port)
    server.serve_forever()
