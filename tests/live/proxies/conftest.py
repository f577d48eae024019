"""The folder of a deployed application, as for the servers."""

from live.servers.conftest import folder

__all__ = ["folder"]
