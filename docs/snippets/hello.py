from flask import Flask

from flask_eventstream import sse

app = Flask(__name__)
app.register_blueprint(sse, url_prefix="/stream")


@sse.channel("sse")
def everybody() -> bool:
    return True


@app.post("/hello")
def hello() -> str:
    sse.publish({"message": "Hello!"}, type="greeting")
    return "sent\n"
