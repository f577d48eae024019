"""The log in Redis or Valkey: one server, with Sentinels, or a cluster."""

__all__: list[str] = []
