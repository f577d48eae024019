from shop import app
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from flask_eventstream.asgi import EventStreamASGI


async def hello(_request: Request) -> PlainTextResponse:
    return PlainTextResponse("Hello!\n")


stream = EventStreamASGI(app, only="/stream")
asgi = Starlette(routes=[Route("/hello", hello), Route("/events", stream)])
