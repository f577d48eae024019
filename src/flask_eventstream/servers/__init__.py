"""How a stream leaves its server: under WSGI, under ASGI; neither knows the other."""

__all__: list[str] = []
