from flask import Flask

from flask_eventstream import sse

app = Flask(__name__)
app.config["SSE_CORS_ORIGINS"] = ["https://shop.example", "http://localhost:5173"]
app.register_blueprint(sse, url_prefix="/stream")
