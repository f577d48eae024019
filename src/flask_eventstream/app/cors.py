"""Pages of other origins: which of them may read a stream (Fetch, 3.2, "CORS protocol").

Only origins that were named get an answer that their pages may see, and always with credentials:
an origin that may not be trusted with its reader's cookies has no business here.
"""

from __future__ import annotations

from flask import Request, Response

from flask_eventstream.config import Config

__all__ = ["allow_origin"]

_ORIGIN = "Access-Control-Allow-Origin"

#: What a program that reads by fetch sends, beside what needs no permission.
_HEADERS = "Authorization, Last-Event-ID, X-SSE-Client, Cache-Control"

#: Seconds for which a browser need not ask again; Chromium's own limit is two hours.
_ASKED_FOR_S = 600


def allow_origin(config: Config, request: Request, response: Response) -> Response:
    """Tell the browser whether the page that asked may have the answer, whatever it is."""
    allowed = config.cors_origins
    if not allowed or _ORIGIN in response.headers:  # such as Flask-CORS' decorator
        return response
    response.vary.add("Origin")
    origin = request.headers.get("Origin")
    if not origin or not (allowed(origin) if callable(allowed) else origin in allowed):
        return response
    response.headers[_ORIGIN] = origin
    response.headers["Access-Control-Allow-Credentials"] = "true"
    if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
        response.headers["Access-Control-Allow-Methods"] = "GET"
        response.headers["Access-Control-Allow-Headers"] = _HEADERS
        response.headers["Access-Control-Max-Age"] = str(_ASKED_FOR_S)
    return response
