"""The way out of a WSGI server."""

__all__: list[str] = []
