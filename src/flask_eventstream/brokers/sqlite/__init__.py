"""The log in a SQLite file."""

__all__: list[str] = []
