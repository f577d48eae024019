"""The way out of an ASGI server."""

__all__: list[str] = []
