"""What `flask sse doctor` looks at, finds and says."""

__all__: list[str] = []
