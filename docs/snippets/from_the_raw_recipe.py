from flask import Flask, Response, request

from flask_eventstream import sse

app = Flask(__name__)
app.config["REDIS_URL"] = "redis://localhost:6379"
app.register_blueprint(sse, url_prefix="/stream")


@app.post("/post")
def post() -> Response:
    sse.publish(f"{request.form['user']}: {request.form['message']}", channel="chat")
    return Response(status=204)
