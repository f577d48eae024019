"""Programs that some tests need beside Python. A missing one fails the test; nothing is skipped."""

from __future__ import annotations

import shutil

__all__ = ["DEBIAN_PACKAGES", "program"]

# tools/install-test-programs installs the same ones.
DEBIAN_PACKAGES = {
    "chromium": "chromium",
    "chromedriver": "chromium-driver",
    "nginx": "nginx-light",
    "haproxy": "haproxy",
    "lighttpd": "lighttpd",
    "varnishd": "varnish",
    "apache2": "apache2-bin libapache2-mod-wsgi-py3",
    "uwsgi_python3": "uwsgi-plugin-python3",
    "openssl": "openssl",
    "curl": "curl",
    "redis-server": "redis-server",
    "redis-cli": "redis-tools",
    "node": "nodejs",
    "npm": "npm",
}


def program(name: str) -> str:
    """Give the path of a program.

    Raises:
        AssertionError: it is not there; the text says what to install.
    """
    # Debian keeps servers where a user's PATH may not look.
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
    if path is None:
        package = DEBIAN_PACKAGES.get(name, name)
        raise AssertionError(
            f"this test needs {name}: install it, on Debian with `apt-get install {package}`"
        )
    return path
