from flask import Flask, request

from flask_eventstream import sse

app = Flask(__name__)
app.register_blueprint(sse, url_prefix="/stream")

PAGE = """<!doctype html>
<title>Votes</title>
<button data-vote="tea">Tea</button> <button data-vote="coffee">Coffee</button>
<ul></ul>
<script>
  const source = new EventSource("/stream?channel=votes");
  source.addEventListener("vote", (event) => {
    const line = document.createElement("li");
    line.textContent = JSON.parse(event.data).for;
    document.querySelector("ul").append(line);
  });
  for (const button of document.querySelectorAll("button"))
    button.onclick = () =>
      fetch("/vote", { method: "POST", body: new URLSearchParams({ for: button.dataset.vote }) });
</script>"""


@app.get("/")
def index() -> str:
    return PAGE


@app.post("/vote")
def vote() -> tuple[str, int]:
    sse.publish({"for": request.form["for"]}, type="vote", channel="votes")
    return "", 204
