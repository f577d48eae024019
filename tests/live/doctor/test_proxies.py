"""What nginx can do to a stream, and what the doctor says of it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from harness.certificate import Certificate, make_certificate
from harness.nginx import run_nginx
from harness.ports import free_port
from live.doctor.conftest import APPS, PATIENCE_S, Shop, Visited

HEARTBEAT_S = 2
IGNORED = "proxy_ignore_headers X-Accel-Buffering;"

RESTART = "Pages may stop for good when the app restarts"
BACK = """
    error_page 502 503 504 = @back;
    location @back { default_type text/event-stream; return 200 "retry: 2000\\n\\n"; }
"""

# What stands in the `server` block of each front, beside proxy_pass.
FRONTS = {
    "plain": "",
    "tls": "",
    "http2": "",
    "buffering": IGNORED,
    # More than the doctor sends to see whether a buffer overflows.
    "hoarding": f"{IGNORED} proxy_buffer_size 512k; proxy_buffers 4 512k;",
    "gzip": "gzip on; gzip_min_length 0; gzip_types text/event-stream; gzip_proxied any;",
    "mislabelled": "add_header Content-Encoding gzip;",
    "impatient": "proxy_read_timeout 1s;",
    "silent": "return 444;",
    "lost": "",
    "resting": BACK,
    "changing": "expires 1h;",
}
WITHOUT_APP = ("lost", "resting")


@dataclass(frozen=True, slots=True)
class Fronts:
    """An app behind nginx, in many ways."""

    shop: Shop
    ports: dict[str, int]
    certificate: Certificate

    def url(self, name: str) -> str:
        scheme = "https" if name in {"tls", "http2"} else "http"
        return f"{scheme}://localhost:{self.ports[name]}/stream"

    def visit(self, name: str, **more: object) -> Visited:
        return self.shop.visit(self.url(name), SSE_HEARTBEAT_S=HEARTBEAT_S, **more)


@pytest.fixture(scope="module")
def fronts(
    stack: ExitStack,
    open_shop: Callable[..., Shop],
    tmp_path_factory: pytest.TempPathFactory,
) -> Fronts:
    """One app on one gunicorn sync worker, and one nginx."""
    folder = tmp_path_factory.mktemp("nginx")
    pem = make_certificate(folder)
    shop = open_shop("gunicorn-sync", SSE_HEARTBEAT_S=HEARTBEAT_S)
    ports, blocks = {}, []
    for name, lines in FRONTS.items():
        ports[name] = free_port()
        flags = {"tls": " ssl", "http2": " ssl http2"}.get(name, "")
        upstream = free_port() if name in WITHOUT_APP else shop.server.port
        blocks.append(f"""
        server {{
            listen 127.0.0.1:{ports[name]}{flags};
            ssl_certificate {pem.certificate};
            ssl_certificate_key {pem.key};
            {lines}
            location / {{ proxy_pass http://127.0.0.1:{upstream}; }}
        }}""")
    stack.enter_context(run_nginx("\n".join(blocks), folder=folder, port=ports["plain"]))
    return Fronts(shop, ports, pem)


def test_what_is_well_is_said_to_be(fronts: Fronts) -> None:
    """Gunicorn sync behind nginx with TLS and HTTP/2 works, and the exit code is 0."""
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "shop", "sse", "doctor", fronts.url("http2")],
        cwd=APPS,
        env={
            **os.environ,
            "FLASK_SSE_BROKER_URL": fronts.shop.broker_url,
            "FLASK_SSE_HEARTBEAT_S": str(HEARTBEAT_S),
            "SSL_CERT_FILE": str(fronts.certificate.certificate),
        },
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    lines = done.stdout.splitlines()

    assert done.returncode == 0, done.stdout + done.stderr
    # Whether nginx knows what to say while the app restarts can't be seen.
    assert lines[-1] == "Problems: 0. Advice: 1."
    assert "  advice  Pages may stop for good when the app restarts" in lines
    assert sum(line.startswith("  ok ") for line in lines) == 9
    assert done.stderr.startswith("Waiting up to ")


def test_buffering_is_found(fronts: Fronts) -> None:
    """A proxy that ignores X-Accel-Buffering is found by the buffer that overflows."""
    found = fronts.visit("buffering", patience_s=PATIENCE_S)

    assert found.only.headline == "A proxy keeps events back"
    assert "and came when much more was sent" in found.only.why
    assert "proxy_buffering off;" in found.only.mend


def test_a_proxy_that_waits_for_the_end_is_found(fronts: Fronts) -> None:
    """A proxy that passes nothing on, however much is sent, is told from a server that is busy."""
    found = fronts.visit("hoarding", patience_s=PATIENCE_S, answer_s=3)

    assert found.only.headline == "A proxy keeps the whole stream back"


def test_harmless_gzip_is_fine(fronts: Fronts) -> None:
    """A stream that nginx compresses and passes on at once is no problem, and it says so."""
    found = fronts.visit("gzip")

    assert found.problems == []
    assert "the stream is compressed, and nothing waits because of it" in found.fine


def test_compression_that_is_none_is_found(fronts: Fronts) -> None:
    """A header that promises gzip for a stream of plain text is found."""
    found = fronts.visit("mislabelled")

    assert found.only.headline == "The stream says that it is compressed, and is not"
    assert "add_header Content-Encoding gzip;" in found.only.mend


def test_an_idle_cut_off_is_found(fronts: Fronts) -> None:
    """A proxy that cuts before the heartbeat is found, with both numbers and both ways to mend."""
    found = fronts.visit("impatient")

    assert found.only.headline == "Idle streams are cut off"
    assert "after 1." in found.only.why
    assert "every 2 s" in found.only.why
    assert "SSE_HEARTBEAT_S = 0." in found.only.mend
    assert "proxy_read_timeout 60s;" in found.only.mend


def test_http_1_1_gets_advice(fronts: Fronts, monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS without HTTP/2 works, and gets the line that adds it."""
    monkeypatch.setenv("SSL_CERT_FILE", str(fronts.certificate.certificate))
    found = fronts.visit("tls")

    assert found.problems == []
    assert found.advice == [RESTART, "Browsers open six connections to this host at most"]


def test_a_certificate_that_nobody_trusts_is_found(fronts: Fronts) -> None:
    """A certificate that browsers would refuse is a finding, and nothing else is tried."""
    found = fronts.visit("tls")

    assert found.only.headline == "Browsers will not trust localhost"


def test_a_proxy_without_an_app_is_found(fronts: Fronts) -> None:
    """A proxy whose upstream is not there is told from an app that answers."""
    found = fronts.visit("lost")

    assert found.only.headline == "The proxy does not reach the app"


def test_a_proxy_that_hangs_up_is_found(fronts: Fronts) -> None:
    """A proxy that ends the connection without a word is a finding."""
    found = fronts.visit("silent")

    assert found.only.headline == "localhost can't be reached"
    assert "ends without an answer" in found.only.why


def test_an_app_that_is_away_is_found(fronts: Fronts) -> None:
    """A proxy that tells readers to come back is told from an app that sends them away."""
    found = fronts.visit("resting")

    assert found.only.headline == "The app is away, and the proxy tells readers to come back"


def test_a_head_that_was_changed_is_found(fronts: Fronts) -> None:
    """A proxy that puts its own Cache-Control there gets advice, with what it says."""
    found = fronts.visit("changing")
    (advice,) = [each for each in found.remarks if each.headline.startswith("Cache-Control")]

    assert found.problems == []
    assert "max-age=3600" in advice.why


def test_the_address_of_the_site_will_do(fronts: Fronts) -> None:
    """Where the address has no path, the app's own is added."""
    found = fronts.shop.visit(f"http://localhost:{fronts.ports['plain']}")

    assert found.problems == []
    assert found.stream is not None
    assert "/stream?channel=sse-doctor-" in found.stream.url


@pytest.mark.parametrize(
    ("path", "headline"),
    [
        ("/sream", "There is no stream at this address"),
        ("/login", "The answer is no event stream"),
    ],
)
def test_a_wrong_path_is_found(path: str, headline: str, fronts: Fronts) -> None:
    """A path that is another page, or none, is answered with the right address."""
    site = f"http://localhost:{fronts.ports['plain']}"
    found = fronts.shop.visit(site + path)

    assert found.only.headline == headline
    assert found.only.mend == f"flask sse doctor {site}/stream"


def test_a_port_without_a_server_is_found(fronts: Fronts) -> None:
    """An address at which nobody listens is a finding."""
    port = free_port()
    found = fronts.shop.visit(f"http://127.0.0.1:{port}/stream")

    assert found.only.headline == f"Nobody listens on port {port} of 127.0.0.1"
