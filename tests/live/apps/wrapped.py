"""The same application behind two pieces of WSGI middleware, each of a common shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from plain import create_app

Wsgi = Callable[[dict[str, Any], Any], Iterable[bytes]]


class AddsHeader:
    """Puts its own function in the place of `start_response`."""

    def __init__(self, inner: Wsgi) -> None:
        self.inner = inner

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            return start_response(status, [*headers, ("X-Middleware", "was here")], exc_info)

        return self.inner(environ, start)


class Generates:
    """Is a generator: nothing runs before the server asks for the first piece of the body."""

    def __init__(self, inner: Wsgi) -> None:
        self.inner = inner

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        body = self.inner(environ, start_response)
        try:
            yield from body
        finally:
            close = getattr(body, "close", None)
            if close is not None:
                close()


app = create_app()
app.wsgi_app = Generates(AddsHeader(app.wsgi_app))  # type: ignore[method-assign]
