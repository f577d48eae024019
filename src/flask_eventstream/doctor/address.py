"""Where a URL leads, and the connection to it. Each wait has a deadline."""

from __future__ import annotations

import socket
import ssl
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

__all__ = ["Address", "offers_http2"]

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a URL leads."""

    url: str
    host: str
    port: int
    is_tls: bool
    target: str
    """Path and query, as they stand in the request line."""
    authority: str
    """What the Host header says."""

    @classmethod
    def parse(cls, url: str) -> Address:
        """Take a URL apart.

        Raises:
            ValueError: It is no address of the web.
        """
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
        is_plain = url.isascii() and url.isprintable() and " " not in url
        if port is None or not parts.hostname or not is_plain:
            raise ValueError("write http://host/stream or https://host/stream")
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        authority = parts.netloc.rpartition("@")[2]
        return cls(url, parts.hostname, port, parts.scheme == "https", target, authority)

    def connect(self, protocols: list[str], *, within_s: float) -> socket.socket:
        """A connection, with TLS if the address wants it; certificates are checked.

        Raises:
            OSError: There is none; `socket.gaierror` and `ssl.SSLError` are kinds of it.
        """
        deadline_s = time.monotonic() + within_s
        connection = self._connect(deadline_s)
        if not self.is_tls:
            return connection
        try:
            context = ssl.create_default_context()
            context.set_alpn_protocols(protocols)
            connection.settimeout(_left(deadline_s))
            return context.wrap_socket(connection, server_hostname=self.host)
        except BaseException:
            connection.close()
            raise

    def _connect(self, deadline_s: float) -> socket.socket:
        """Try the host's addresses in turn, all of them by the deadline.

        `socket.create_connection` gives each of them the whole time, and a name may have many.
        """
        error: OSError = TimeoutError("timed out")
        for family, kind, number, _, there in socket.getaddrinfo(
            self.host, self.port, type=socket.SOCK_STREAM
        ):
            connection = socket.socket(family, kind, number)
            try:
                connection.settimeout(_left(deadline_s))
                connection.connect(there)
            except OSError as refusal:
                connection.close()
                error = refusal
            else:
                return connection
        raise error


def offers_http2(address: Address, *, within_s: float) -> bool:
    """True where a browser would speak HTTP/2 here, which browsers do with TLS only.

    Raises:
        OSError: No connection, as `Address.connect`.
    """
    if not address.is_tls:
        return False
    with address.connect(["h2", "http/1.1"], within_s=within_s) as connection:
        return isinstance(connection, ssl.SSLSocket) and (
            connection.selected_alpn_protocol() == "h2"
        )


def _left(deadline_s: float) -> float:
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("timed out")
    return left_s
