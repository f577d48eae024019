"""Serve an application with eventlet: run_eventlet.py MODULE:APP PORT [patched]."""

from __future__ import annotations

import sys

import eventlet

if sys.argv[3:] == ["patched"]:
    eventlet.monkey_patch()

import eventlet.wsgi
from loading import load, say_where

if __name__ == "__main__":
    app, port = sys.argv[1:3]
    listening = eventlet.listen(("127.0.0.1", int(port)))
    say_where(listening.getsockname()[1])
    eventlet.wsgi.server(listening, load(app))
