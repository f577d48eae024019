"""curl, which speaks what the plain clients of this package do not: TLS and HTTP/2."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from .leaving import Leaves
from .programs import program
from .waiting import wait_until

__all__ = ["Curl"]

END_WITHIN_S = 10.0


class Curl(Leaves):
    """One request of curl's, response head first. A context manager that ends it.

    Args:
        url: What to get.
        options: Before the URL, such as ["--http2"].
        certificate: The one to trust.
    """

    def __init__(self, url: str, *options: str, certificate: Path | None = None) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115  closed by close()
        trust = ["--cacert", str(certificate)] if certificate else []
        # -N: what arrives is written at once. -i: the head, too.
        self._process = subprocess.Popen(
            [program("curl"), "-sS", "-N", "-i", "--noproxy", "*", *trust, *options, url],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
        )

    @property
    def received(self) -> str:
        """Head and body as far as they have arrived, or what curl complained of."""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode("utf-8", "replace")

    @property
    def ended(self) -> bool:
        """Whether the response is over."""
        return self._process.poll() is not None

    def wait_for(self, mark: str, within_s: float = 10) -> str:
        """Wait until `mark` has arrived, and give all that has."""
        wait_until(
            lambda: mark in self.received,
            within_s=within_s,
            what=f"{mark!r} in {self.received!r}",
        )
        return self.received

    def wait_end(self, within_s: float = 10) -> str:
        """Wait until the response is over, and give it."""
        wait_until(lambda: self.ended, within_s=within_s, what="the end of the response")
        return self.received

    def close(self) -> None:
        """Leave, as a closed tab does."""
        self._process.kill()
        self._process.wait(timeout=END_WITHIN_S)
        self._output.close()
