"""Flask, and nothing else knows Flask."""

__all__: list[str] = []
