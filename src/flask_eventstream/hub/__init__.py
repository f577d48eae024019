"""The streams of one loop: opening, bringing live, fan-out, clockwork; and its thread."""

__all__: list[str] = []
