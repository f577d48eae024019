"""A site of many pages, each with a stream: by the snippet of the docs, or without its care."""

from __future__ import annotations

from pathlib import Path

from flask import Flask, request

from flask_eventstream import sse

SNIPPET = Path(__file__).parents[4] / "docs" / "snippets" / "page.js"
NAIVE = 'new EventSource("/stream");'

app = Flask(__name__)
app.config.from_prefixed_env()
app.register_blueprint(sse, url_prefix="/stream")

PAGE = """<!doctype html>
<meta charset="utf-8"><link rel="icon" href="data:,"><title>Page {number}</title>
<h1>{number}</h1> <a id="next" href="/{next}?naive={naive}">next</a> <ol></ol>
<script>
  const shown = [];
  console.log = (text) => shown.push(text);
  addEventListener("pageshow", (event) => {{ document.title += event.persisted ? " again" : ""; }});
  {script}
</script>"""


@app.get("/<int:number>")
def page(number: int) -> str:
    naive = request.args.get("naive", "")
    script = NAIVE if naive else SNIPPET.read_text(encoding="utf-8")
    return PAGE.format(number=number, next=number + 1, naive=naive, script=script)


@app.post("/hello")
def hello() -> str:
    sse.publish({"message": request.get_data(as_text=True)}, type="greeting")
    return "sent\n"
