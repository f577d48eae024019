import time
from collections.abc import Iterator

from flask import Flask, Response

from flask_eventstream import Event, sse

app = Flask(__name__)
app.register_blueprint(sse, url_prefix="/stream")

ANSWER = "The quick brown fox jumps over the lazy dog"


@app.get("/answer")
def answer() -> Response:
    def words() -> Iterator[str | Event]:
        for word in ANSWER.split():
            yield word
            time.sleep(0.05)  # a model at work
        yield Event("", type="done")

    return sse.response(words())
