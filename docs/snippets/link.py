from flask import Flask, abort, render_template_string

from flask_eventstream import sse

app = Flask(__name__)
app.config.from_prefixed_env()  # FLASK_SECRET_KEY, FLASK_SSE_BROKER_URL, …
app.register_blueprint(sse, url_prefix="/stream")

MINE = 42

PAGE = """
<ul id="news" data-stream="{{ sse_url('order-%d' % number, subject=7, valid_s=900) }}"></ul>
<script>
  const list = document.getElementById("news");
  new EventSource(list.dataset.stream).onmessage = (event) => list.append(event.data);
</script>
"""


@sse.channel("order-<int:number>")
def by_link_only(number: int) -> bool:
    return number < 0


@app.get("/orders/<int:number>")
def order(number: int) -> str:
    if number > MINE:
        abort(403)
    return render_template_string(PAGE, number=number)
