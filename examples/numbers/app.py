"""A generator as an event stream: 1 to 6 for ever, half a second apart."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import cycle

from flask import Flask, Response, render_template

from flask_eventstream import sse

app = Flask(__name__)
app.config.from_prefixed_env()
app.register_blueprint(sse, url_prefix="/stream")


@app.get("/")
def index() -> str:
    return render_template("index.html")


@app.get("/numbers")
def numbers() -> Response:
    """A generator runs for one page and holds a thread while the page is open.

    Events for everybody are published to a channel instead, which holds no thread.
    """

    def one_to_six() -> Iterator[int]:
        for number in cycle(range(1, 7)):
            yield number
            time.sleep(0.5)

    return sse.response(one_to_six())
