"""Small applications for the tests of the Flask side, and pages that read them."""

from __future__ import annotations

from typing import Any

from flask import Flask

from harness.hand_server import HandServer, Page


def an_app(name: str = "app_under_test", **config: Any) -> Flask:
    app = Flask(name)
    app.config.update({"SSE_BROKER_URL": "memory://", **config})
    return app


def reading(app: Flask, path: str = "/stream", **headers: str) -> Page:
    return HandServer(app).request(path, headers=headers).opened()
