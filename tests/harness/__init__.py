"""What the live tests stand on: servers under test, clients of streams, waiting with a deadline.

`waiting` waits for a condition, `servers` runs a web server with an app in it, `streams` reads
event streams. `event_stream` and `http_response` are the two parsers that `streams` uses; they
are written from the specifications and share no line with the code that they judge.
"""

from __future__ import annotations

__all__: list[str] = []
