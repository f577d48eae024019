from flask import Flask
from flask.typing import ResponseReturnValue

from flask_eventstream import BrokerUnavailable, sse

app = Flask(__name__)
app.config.from_prefixed_env()
app.register_blueprint(sse, url_prefix="/stream")
orders: list[str] = []  # stands for a database


@app.post("/orders/<name>")
def order(name: str) -> ResponseReturnValue:
    orders.append(name)  # first what must not be lost
    try:
        sse.publish({"order": name}, type="order", channel="orders")
    except BrokerUnavailable as error:
        # Open pages will not show it until they are loaded again.
        app.logger.warning("Order %s is stored, but not told: %s", name, error)
    return {"orders": len(orders)}, 201
