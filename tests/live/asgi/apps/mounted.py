"""The stream of a Flask application, and nothing else of it, among the routes of Starlette."""

from __future__ import annotations

from served import app
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from flask_eventstream.asgi import EventStreamASGI

__all__ = ["starlette"]

stream = EventStreamASGI(app, threads=2, only="/stream")


async def hello(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello from Starlette")


starlette = Starlette(routes=[Route("/hello", hello), Route("/events", stream)])
