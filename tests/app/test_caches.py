"""`app.caches`: what caches are told of our answers."""

from __future__ import annotations

from flask import Response

from flask_eventstream.app.caches import keep_out_of_caches


def test_nobody_stores_an_answer() -> None:
    """An answer says that no cache may keep it, and no browser may guess what it is."""
    headers = keep_out_of_caches(Response(status=204)).headers

    assert headers["Cache-Control"] == "no-store"
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_what_the_application_said_stays() -> None:
    """Headers that somebody has set already are left as they are."""
    response = Response(headers={"Cache-Control": "private"})

    assert keep_out_of_caches(response).headers.getlist("Cache-Control") == ["private"]
