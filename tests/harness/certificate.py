"""A certificate for this machine's loopback address, made when it is needed."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

from .programs import program

__all__ = ["Certificate", "make_certificate"]

OPENSSL_WITHIN_S = 30


class Certificate(NamedTuple):
    """Two PEM files. Clients trust the first one, which signed itself."""

    certificate: Path
    key: Path


def make_certificate(folder: Path) -> Certificate:
    """Make a certificate for 127.0.0.1 and localhost."""
    made = Certificate(folder / "certificate.pem", folder / "key.pem")
    command = [
        *(program("openssl"), "req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
        *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
        *("-keyout", str(made.key), "-out", str(made.certificate)),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=OPENSSL_WITHIN_S)
    return made
