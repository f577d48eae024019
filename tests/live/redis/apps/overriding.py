"""The application of somebody who had overridden what flask-sse called."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from flask import Flask, current_app
from redis import StrictRedis

from flask_eventstream import Message, ServerSentEventsBlueprint


class Shop(ServerSentEventsBlueprint):
    """Has its events on a server of its own, and keeps secrets back."""

    @property
    def redis(self) -> Any:
        """The client, of a setting that no package knows."""
        return StrictRedis.from_url(current_app.config["SHOP_REDIS"])

    def messages(self, channel: Any = "sse") -> Iterator[Message]:
        """Those that are no secret."""
        for message in super().messages(channel=channel):
            if message.type != "secret":
                yield message


app = Flask(__name__)
app.config.from_prefixed_env()
shop = Shop("shop", __name__)
shop.add_url_rule(rule="", endpoint="stream", view_func=shop.stream)
app.register_blueprint(shop, url_prefix="/stream")


@app.get("/ping")
def ping() -> str:
    return "pong"


@app.get("/channels")
def channels() -> list[str]:
    """What a heartbeat job asks: who listens."""
    return [name.decode() for name in shop.redis.pubsub_channels()]
