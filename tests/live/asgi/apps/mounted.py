"""The stream of a Flask application, and nothing else of it, among the routes of Starlette."""

from __future__ import annotations

from served import app
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from flask_eventstream.asgi import EventStreamASGI

__all__ = ["starlette", "whole"]

stream = EventStreamASGI(app, threads=2, only="/stream")


async def hello(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("hello from Starlette")


starlette = Starlette(routes=[Route("/hello", hello), Route("/events", stream)])
# As a framework's own middleware, which most applications have some of, and the whole Flask app.
whole = Starlette(
    routes=[Route("/hello", hello), Mount("/flask", EventStreamASGI(app, threads=2))],
    middleware=[Middleware(CORSMiddleware, allow_origins=["https://pages.example"])],
)
