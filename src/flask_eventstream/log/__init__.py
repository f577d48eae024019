"""Entries, pages, positions. Pure: no clock, no socket, no loop."""

__all__: list[str] = []
