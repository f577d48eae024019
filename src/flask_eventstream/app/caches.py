"""What caches are told of our answers."""

from __future__ import annotations

from flask import Response

__all__ = ["keep_out_of_caches"]


def keep_out_of_caches(response: Response) -> Response:
    """Let nobody store an answer: a 204 or a 404 of yesterday ends an EventSource for good."""
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    return response
