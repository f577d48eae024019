"""The ways through nginx that are tested, and how a test goes through one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from harness.certificate import Certificate
from harness.curl import Curl
from harness.streams import get, post
from harness.waiting import wait_until

__all__ = ["VARIANTS", "Front", "Variant"]

# nginx passes nothing by itself; these are the lines of Debian's uwsgi_params that WSGI needs.
UWSGI_PARAMS = "".join(
    f"uwsgi_param {name} {value};\n"
    for name, value in {
        "QUERY_STRING": "$query_string",
        "REQUEST_METHOD": "$request_method",
        "CONTENT_TYPE": "$content_type",
        "CONTENT_LENGTH": "$content_length",
        "REQUEST_URI": "$request_uri",
        "PATH_INFO": "$document_uri",
        "SERVER_PROTOCOL": "$server_protocol",
        "REQUEST_SCHEME": "$scheme",
        "REMOTE_ADDR": "$remote_addr",
        "REMOTE_PORT": "$remote_port",
        "SERVER_PORT": "$server_port",
        "SERVER_NAME": "$server_name",
    }.items()
)


@dataclass(frozen=True, slots=True)
class Variant:
    """A `server` block: what is in its location, and on what it listens."""

    location: str
    upstream: str = "gunicorn"
    tls: bool = False
    curl: tuple[str, ...] = ()
    status_line: str = "HTTP/1.1 200 OK"

    def block(
        self,
        *,
        port: int,
        plain: int,
        upstream: int,
        unix: Path,
        pem: Certificate,
        read_timeout_s: int,
    ) -> str:
        """The block. It listens on `plain`, too, without TLS."""
        listen = f"listen 127.0.0.1:{port}{' ssl http2' if self.tls else ''};"
        location = self.location.replace("PORT", str(upstream)).replace("SOCKET", str(unix))
        return f"""
        server {{
            {listen}
            listen 127.0.0.1:{plain};
            ssl_certificate {pem.certificate};
            ssl_certificate_key {pem.key};
            proxy_read_timeout {read_timeout_s}s;
            uwsgi_read_timeout {read_timeout_s}s;
            location / {{ {location} }}
        }}
        """


VARIANTS = {
    "HTTP/1.0 to the upstream (default)": Variant("proxy_pass http://127.0.0.1:PORT;"),
    "HTTP/1.1 to the upstream, keep-alive": Variant(
        'proxy_pass http://kept; proxy_http_version 1.1; proxy_set_header Connection "";'
    ),
    "Unix socket": Variant("proxy_pass http://unix:SOCKET;"),
    "`uwsgi_pass` to gunicorn `--protocol uwsgi`": Variant(
        f"uwsgi_pass 127.0.0.1:PORT; {UWSGI_PARAMS}", upstream="gunicorn-uwsgi"
    ),
    "`uwsgi_pass` to uWSGI `--socket`": Variant(
        f"uwsgi_pass 127.0.0.1:PORT; {UWSGI_PARAMS}", upstream="uwsgi"
    ),
    "TLS and HTTP/2 at nginx": Variant(
        "proxy_pass http://127.0.0.1:PORT;", tls=True, curl=("--http2",), status_line="HTTP/2 200"
    ),
    "`gzip on`": Variant("gzip on; proxy_pass http://127.0.0.1:PORT;", curl=("--compressed",)),
}


@dataclass(frozen=True, slots=True)
class Front:
    """One way through nginx, as a client has it. Belongs to the test's thread."""

    variant: Variant
    port: int
    plain: int
    certificate: Path

    @property
    def plain_url(self) -> str:
        return f"http://127.0.0.1:{self.plain}"

    def read(self, channel: str) -> Curl:
        """Open a stream, and wait until it is open."""
        scheme = "https" if self.variant.tls else "http"
        url = f"{scheme}://127.0.0.1:{self.port}/stream?channel={channel}"
        return Curl(url, *self.variant.curl, certificate=self.certificate)

    def publish(self, data: str, channel: str) -> None:
        post(f"{self.plain_url}/publish?channel={channel}", data.encode())

    def wait_streams(self, count: int, within_s: float = 10) -> None:
        """Wait until the worker behind nginx says that so many streams are open."""

        def is_so() -> bool:
            return bool(json.loads(get(f"{self.plain_url}/stats").body)["streams"] == count)

        wait_until(is_so, within_s=within_s, what=f"{count} streams")
