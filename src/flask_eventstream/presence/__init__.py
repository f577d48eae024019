"""Who is there: how many read a channel, over all processes that share its log."""

__all__: list[str] = []
