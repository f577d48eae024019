from flask import Flask, request

from flask_eventstream import sse

app = Flask(__name__)
app.register_blueprint(sse, url_prefix="/stream")


@sse.channel("votes")
def everybody() -> bool:
    return True


PAGE = """<!doctype html>
<title>Votes</title>
<button data-vote="tea">Tea</button> <button data-vote="coffee">Coffee</button>
<ul></ul>
<script>
  let source, last = "";
  function open() {
    source = new EventSource("/stream?channel=votes&lastEventId=" + encodeURIComponent(last));
    source.addEventListener("vote", (event) => {
      last = event.lastEventId;
      const line = document.createElement("li");
      line.textContent = JSON.parse(event.data).for;
      document.querySelector("ul").append(line);
    });
  }
  open();
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => event.persisted && open());
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
