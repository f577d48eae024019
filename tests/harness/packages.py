"""Folders of Python packages for servers that do not use those of the environment."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from .programs import program

__all__ = ["debian_python", "eventlet", "flask", "gunicorn23", "pytest_mock", "redis_py", "sdist"]

ROOT = Path(__file__).parents[2]
PACKAGES = ROOT / ".packages"
INSTALL_WITHIN_S = 100


def gunicorn23() -> list[Path]:
    """What goes on PYTHONPATH for the oldest gunicorn that is supported, 23.0.0."""
    return [_filled("gunicorn23", "--no-deps", "gunicorn==23.0.0")]


def eventlet() -> list[Path]:
    """What goes on PYTHONPATH for eventlet, which nothing else here needs."""
    return [_filled("eventlet", "--no-deps", "eventlet==0.41.3", "greenlet", "dnspython")]


def flask(version: str, *, werkzeug: str) -> list[Path]:
    """What goes on PYTHONPATH for another Flask. All that it needs beside is in the environment."""
    pair = (f"flask=={version}", f"werkzeug=={werkzeug}")
    return [_filled(f"flask-{version}", "--no-deps", *pair)]


def redis_py(version: str) -> list[Path]:
    """What goes on PYTHONPATH for another redis-py."""
    return [_filled(f"redis-{version}", "--no-deps", f"redis=={version}")]


def debian_python() -> list[Path]:
    """What goes on the path of the Python that Debian's servers have built in: this project too.

    It is another Python than the tests', so compiled packages must be others.
    """
    command = ["-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    version = subprocess.run(
        [program("/usr/bin/python3"), *command], capture_output=True, text=True, check=True
    ).stdout.strip()
    wheels = ["--only-binary", ":all:", "--python-version", version, "--implementation", "cp"]
    return [_filled(f"debian-python{version}", *wheels, "flask", "uvloop"), ROOT / "src"]


def pytest_mock() -> list[Path]:
    """What goes on PYTHONPATH for the fixture `mocker`, which others' tests want."""
    return [_filled("pytest-mock", "--no-deps", "pytest-mock")]


def sdist(requirement: str) -> Path:
    """The archive of a source distribution, unopened."""
    folder = PACKAGES / f"sdist-{requirement}"
    if not folder.is_dir():
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        half = folder.with_name(f"{folder.name}.{os.getpid()}")
        subprocess.run(
            [*command, "--no-binary", ":all:", "--dest", str(half), requirement],
            check=True,
            timeout=INSTALL_WITHIN_S,
        )
        with contextlib.suppress(OSError):  # somebody else was faster
            half.rename(folder)
    return next(folder.glob("*.tar.gz"))


def _filled(name: str, *arguments: str) -> Path:
    folder = PACKAGES / name
    PACKAGES.mkdir(exist_ok=True)
    tool = str(ROOT / "tools" / "install-packages")
    subprocess.run(
        [tool, sys.executable, str(folder), *arguments], check=True, timeout=INSTALL_WITHIN_S
    )
    return folder
