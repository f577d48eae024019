"""Who may read what, until when. Pure: no clock, no socket, no loop."""

__all__: list[str] = []
