"""Serve an application with Werkzeug, a process for each request: MODULE:APP PORT."""

from __future__ import annotations

import sys

from loading import load
from werkzeug.serving import run_simple

if __name__ == "__main__":
    app, port = sys.argv[1:]
    run_simple("127.0.0.1", int(port), load(app), threaded=False, processes=4)
